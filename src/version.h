/* SPDX-License-Identifier: MIT */
/* What `pvemu -version` says. */
#ifndef PVEMU_VERSION_H
#define PVEMU_VERSION_H

/* pvemu's version and those of the libraries it runs with; the caller frees. */
char *version_text(void);

#endif
