/* SPDX-License-Identifier: MIT */
/*
 * Stands in for unpack_lzo.c in builds without the option `lzo` (the library is GPL, so it is
 * off unless asked for): the format is still recognised and named in the message.
 */
#include "boot/unpack.h"

enum unpack_result unpack_lzo(struct unpack *u)
{
    u->why = "this pvemu was built without lzo";
    return UNPACK_NOT_BUILT;
}
