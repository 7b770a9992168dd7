#include "frame/waiting.h"

#include <stdlib.h>
#include <unistd.h>

void waiting_be_passive(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL)
        return;
    if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv); /* where that fails, spinning is only slow */
}
