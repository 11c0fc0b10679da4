/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a running guest, $XDG_RUNTIME_DIR/pvemu/NAME.sock, in QMP framing: JSON
 * lines, a greeting, qmp_capabilities, then commands (control_commands.c) and events. For its
 * owner only. Main loop, board lock not held.
 */
#ifndef PVEMU_CTL_CONTROL_H
#define PVEMU_CTL_CONTROL_H

#include <glib.h>

#include "base/config.h"
#include "machine/machine.h"

struct control;
struct session;

/*
 * Takes the configured name, or makes one from the kernel's, makes the socket and listens. A
 * name in use is an error when it was asked for. Where no socket can be made (no writable
 * runtime folder) the guest runs without one, and a note says so.
 */
struct control *control_new(struct session *session, const struct config *config,
                            GMainContext *context, GError **err);
/* Removes the socket and lets the clients go. */
void control_free(struct control *c);
/* STOP and RESUME. c may be NULL. */
void control_state_changed(struct control *c, enum machine_run_state state);
/* Sends an event to all clients that asked for them; data: a JSON object as text, or NULL. c
 * may be NULL. */
void control_event(struct control *c, const char *event, const char *data);

#endif
