/* SPDX-License-Identifier: MIT */
/* A line from a client of the control socket, and the answers made from its id. */
#include <glib.h>
#include <string.h>

#include "ctl/qmp.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *copy = g_memdup2(data, size); /* of its own: running off it is seen */
    g_autoptr(GString) out = g_string_new(NULL);
    struct qmp_request request;
    const char *error = NULL;
    bool ok = qmp_parse(size > 0 ? copy : "", size, &request, &error);

    g_assert_true(ok == (request.command != NULL));
    qmp_put_error(out, "GenericError", "why", request.id);
    qmp_put_return(out, qmp_object(), request.id);
    g_assert_true(g_str_has_suffix(out->str, "}\r\n"));
    g_assert_true(g_utf8_validate(out->str, -1, NULL));
    qmp_request_clear(&request);
    return 0;
}
