#include "rows.h"

#include <stdlib.h>

/* Rows of a share are multiples of this: whole panels of lutmul's. */
enum { STEP = 48 };

lutmul_status rows_create(rows_layer *layer, const lutmul_weights *weights, const char *mode,
                          size_t max_tokens, int threads) {
  lutmul_options options = {sizeof options, NULL, mode, 0};
  layer->weights = weights;
  layer->activations = NULL;
  layer->threads = threads;
  layer->workspaces = (lutmul_workspace **)calloc((size_t)threads, sizeof *layer->workspaces);
  if (!layer->workspaces) return LUTMUL_RESOURCES;
  lutmul_status status = LUTMUL_OK;
  for (int i = 0; !status && i < threads; i++) {
    status = lutmul_workspace_create(&options, &layer->workspaces[i]);
    if (!status) status = lutmul_workspace_reserve_scratch(layer->workspaces[i], weights, max_tokens);
  }
  if (!status) status = lutmul_activations_create(&layer->activations);
  if (!status)
    status = lutmul_activations_reserve(layer->activations, layer->workspaces[0], weights, max_tokens);
  if (status) rows_free(layer);
  return status;
}

lutmul_status rows_pack(rows_layer *layer, const lutmul_matrix *x) {
  return lutmul_activations_pack(layer->activations, layer->workspaces[0], layer->weights, x);
}

lutmul_status rows_multiply(const rows_layer *layer, const lutmul_matrix_mut *y, int ith, int nth) {
  if (ith < 0 || ith >= nth || ith >= layer->threads) return LUTMUL_RANGE;
  size_t n = y->cols, share = (n + (size_t)nth - 1) / (size_t)nth;
  share = (share + STEP - 1) / STEP * STEP;
  size_t begin = share * (size_t)ith, end = begin + share;
  if (begin > n) begin = n;
  if (end > n) end = n;
  return lutmul_matmul_rows(layer->workspaces[ith], layer->weights, layer->activations, begin, end, y,
                            NULL);
}

void rows_free(rows_layer *layer) {
  for (int i = 0; i < layer->threads; i++) lutmul_workspace_free(layer->workspaces[i]);
  free(layer->workspaces);
  lutmul_activations_free(layer->activations);
  layer->workspaces = NULL;
  layer->activations = NULL;
}
