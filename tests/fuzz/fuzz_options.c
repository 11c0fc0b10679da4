/* SPDX-License-Identifier: MIT */
/* The option parser. The input is the command line, words separated by NUL. */
#include <glib.h>
#include <string.h>

#include "base/options.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_malloc0(size + 1);
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    struct option_request request = {0};
    g_autoptr(GError) err = NULL;
    struct config *config = config_new();
    bool ok;

    memcpy(text, data, size);
    for (size_t at = 0; at < size; at += strlen(text + at) + 1) {
        g_ptr_array_add(words, text + at);
    }
    g_ptr_array_add(words, NULL);
    ok = options_parse(config, (int)words->len - 1, (char *const *)words->pdata, 0, &request,
                       &err);
    g_assert_true(ok == (err == NULL));
    config_free(config);
    return 0;
}
