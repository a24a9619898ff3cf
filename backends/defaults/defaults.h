/* The tuning files of this folder, as text; made by shaders/embed.py. */
#ifndef GB_BACKENDS_DEFAULTS_H
#define GB_BACKENDS_DEFAULTS_H

extern const char gb_default_cpu_avx512_json[];

#endif
