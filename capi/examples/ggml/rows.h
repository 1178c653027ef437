/* A product in a runtime with threads of its own: the part that knows nothing of the runtime. */
#ifndef ROWS_H
#define ROWS_H

#include <lutmul.h>

/* A layer in a graph: weights, its packed input, and a workspace for each thread. */
typedef struct {
  const lutmul_weights *weights;
  lutmul_activations *activations;
  lutmul_workspace **workspaces;
  int threads;
} rows_layer;

/* Makes a layer for up to max_tokens and that many threads. On failure nothing is left behind. */
lutmul_status rows_create(rows_layer *layer, const lutmul_weights *weights, const char *mode,
                          size_t max_tokens, int threads);

/* Packs x, [m, k]. One thread does this, before any of them multiplies. */
lutmul_status rows_pack(rows_layer *layer, const lutmul_matrix *x);

/* Computes the share of thread ith of nth, whose columns of y, [m, n], nobody else writes to. */
lutmul_status rows_multiply(const rows_layer *layer, const lutmul_matrix_mut *y, int ith, int nth);

void rows_free(rows_layer *layer);

#endif
