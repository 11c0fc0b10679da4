/* SPDX-License-Identifier: MIT */
/* What the control socket's clients can ask of a guest. Main loop, board lock not held. */
#ifndef PVEMU_CTL_CONTROL_COMMANDS_H
#define PVEMU_CTL_CONTROL_COMMANDS_H

#include <json-glib/json-glib.h>

struct session;

struct control_target {
    struct session *session;
    const char *name; /* the guest's */
    JsonObject *arguments; /* of the command; NULL: none */
};

/* Runs a command. Its value (caller owns), or NULL and an error (constants). */
JsonNode *control_command(const struct control_target *target, const char *command,
                          const char **class, const char **why);

#endif
