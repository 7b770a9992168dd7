/* version.h - what this build is. */
#ifndef FRAME_VERSION_H
#define FRAME_VERSION_H

const char *version_number(void); /* "0.1.0" */

/* One line on stdout: program, version, commit, compiler, backends. */
void version_print(const char *program);

#endif
