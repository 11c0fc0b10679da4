/* SPDX-License-Identifier: MIT */
/*
 * The words of the control socket: requests in, answers and events out, each one line of JSON
 * in QEMU's QMP framing. Knows neither sockets nor guests.
 */
#ifndef PVEMU_CTL_QMP_H
#define PVEMU_CTL_QMP_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

struct qmp_request {
    char *command; /* owned */
    JsonObject *arguments; /* owned; NULL: none */
    JsonNode *id;  /* owned; NULL: none */
};

/*
 * One line, without its end. The line may be anything. On false, *error says what is wrong
 * (a constant) and the request holds the id as far as there was one.
 */
bool qmp_parse(const char *line, size_t len, struct qmp_request *request, const char **error);
void qmp_request_clear(struct qmp_request *request);

/* Each appends one line, "\r\n" included. id is borrowed and may be NULL. */
void qmp_put_greeting(GString *out);
void qmp_put_return(GString *out, JsonNode *value, const JsonNode *id); /* takes value */
void qmp_put_error(GString *out, const char *class, const char *text, const JsonNode *id);
/* data: JSON object as text, or NULL. */
void qmp_put_event(GString *out, const char *event, const char *data);

/* An empty object, for commands that return nothing. */
JsonNode *qmp_object(void);

#endif
