#include "frame/version.h"

#include <stdio.h>

#ifndef CLIPIPE_COMMIT
#define CLIPIPE_COMMIT "unknown"
#endif

const char *version_number(void)
{
    return CLIPIPE_VERSION;
}

void version_print(const char *program)
{
#if defined(__clang__)
    const char *compiler = "clang " __clang_version__;
#else
    const char *compiler = "gcc " __VERSION__;
#endif
    printf("%s (clipipe) %s, commit %s, %s, backends: ref cpu\n", program, CLIPIPE_VERSION,
           CLIPIPE_COMMIT, compiler);
}
