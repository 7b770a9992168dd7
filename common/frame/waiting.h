/* waiting.h - how the threads of the cpu backend wait for each other. */
#ifndef FRAME_WAITING_H
#define FRAME_WAITING_H

/* libgomp's threads spin at barriers unless OMP_WAIT_POLICY says otherwise, which takes the
 * processors from the other stages of the pipeline: training beside a decoder is ten times
 * slower. The variable is read before main(), so a program that finds it unset sets it to
 * "passive" and starts itself again, in the same process. Call it first. */
void waiting_be_passive(char **argv);

#endif
