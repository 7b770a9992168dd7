/* stop_signal.h - SIGTERM, SIGINT and SIGUSR1 as something to read, so that work is stopped
 * between two steps and never inside one. */
#ifndef FRAME_STOP_SIGNAL_H
#define FRAME_STOP_SIGNAL_H

#include <stdbool.h>

#include "base/error.h"

/* Blocks the signals and opens a descriptor that becomes readable when one arrives. To be
 * called before threads start, which inherit the mask. */
enum status stop_signal_open(int *fd, struct error *error);

/* Whether one has arrived; does not wait. */
bool stop_signal_arrived(int fd);

#endif
