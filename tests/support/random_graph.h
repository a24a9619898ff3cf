/* Random graphs through the public headers: a grammar of operators over small shapes. */
#ifndef GB_TESTS_RANDOM_GRAPH_H
#define GB_TESTS_RANDOM_GRAPH_H

#include <gimbal/graph.h>

/* A graph of about size operators, the same for the same seed: inputs "x" [4, 6] and "image"
 * [2, 3, 6, 6] and trainable states. Outputs are some of its values; where smooth also the mean of
 * all of them, "loss", and its gradients: then no operator has kinks. */
gb_graph *gb_random_graph(uint32_t seed, int size, bool smooth);

#endif
