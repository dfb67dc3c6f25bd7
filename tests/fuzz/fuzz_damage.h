/* SPDX-License-Identifier: MIT */
/* fuzz_damage.h - damages the volume on the device as the input says. */
#ifndef TESTS_FUZZ_FUZZ_DAMAGE_H
#define TESTS_FUZZ_FUZZ_DAMAGE_H

#include "fuzz.h"

void damage(struct input *in);

#endif
