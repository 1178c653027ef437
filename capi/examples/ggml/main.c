/* A ggml graph whose matrix is lutmul's: two custom operations, which pack x and multiply. */
#include <ggml.h>
#include <ggml-cpu.h>
#include <stdio.h>
#include <stdlib.h>

#include "rows.h"

enum { M = 7, N = 500, K = 256, THREADS = 4 };

static void check(lutmul_status status) {
  if (status == LUTMUL_OK) return;
  fprintf(stderr, "status %d: %s\n", (int)status, lutmul_last_error());
  exit(1);
}

/* Packs x, the operation's only source. What it is said to compute, nobody reads. ggml calls it on all of its
   threads, although it is said to be one task: all but the first have nothing to do. */
static void pack(struct ggml_tensor *packed, int ith, int nth, void *layer) {
  (void)nth;
  if (ith > 0) return;
  const struct ggml_tensor *x = packed->src[0];
  size_t stride = x->nb[1] / sizeof(float);
  lutmul_matrix from = {x->data, (size_t)x->ne[1], (size_t)x->ne[0], stride, LUTMUL_F32, 0};
  check(rows_pack((rows_layer *)layer, &from));
}

/* As many tasks as there are threads: each computes its share of the rows of W. */
static void multiply(struct ggml_tensor *y, int ith, int nth, void *layer) {
  size_t stride = y->nb[1] / sizeof(float);
  lutmul_matrix_mut to = {y->data, (size_t)y->ne[1], (size_t)y->ne[0], stride, LUTMUL_F32, 0};
  check(rows_multiply((rows_layer *)layer, &to, ith, nth));
}

/* y = x * W^T for x of ne = {k, m}, as ggml_mul_mat(w, x). The multiplication depends on the packing, so that
   ggml runs it afterwards. */
static struct ggml_tensor *lutmul_in_ggml(struct ggml_context *ctx, struct ggml_tensor *x, int64_t n,
                                          rows_layer *layer) {
  struct ggml_tensor *packed = ggml_custom_4d(ctx, GGML_TYPE_F32, 1, 1, 1, 1, &x, 1, pack, 1, layer);
  return ggml_custom_4d(ctx, GGML_TYPE_F32, n, x->ne[1], 1, 1, &packed, 1, multiply, GGML_N_TASKS_MAX,
                        layer);
}

int main(void) {
  struct ggml_init_params params = {16u << 20, NULL, false};
  struct ggml_context *ctx = ggml_init(params);
  struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, K, M);
  struct ggml_tensor *w = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, K, N);
  float *xs = (float *)x->data, *ws = (float *)w->data;
  for (int i = 0; i < M * K; i++) xs[i] = (float)(i % 127) / 127.0f - 0.5f;
  for (int i = 0; i < N * K; i++) ws[i] = (float)(i % 251) / 251.0f - 0.5f;

  /* lutmul's weights, decoded into ggml's own, so that both multiply by the same numbers. */
  lutmul_matrix original = {ws, N, K, 0, LUTMUL_F32, 0};
  lutmul_matrix_mut decoded = {ws, N, K, 0, LUTMUL_F32, 0};
  lutmul_weights *weights;
  check(lutmul_weights_encode(&original, "qins-linear", "row", NULL, &weights));
  check(lutmul_weights_decode(weights, 0, N, &decoded, NULL));
  rows_layer layer;
  check(rows_create(&layer, weights, "a24", M, THREADS));

  struct ggml_tensor *ours = lutmul_in_ggml(ctx, ggml_scale(ctx, x, 2.0f), N, &layer);
  struct ggml_tensor *theirs = ggml_mul_mat(ctx, w, ggml_scale(ctx, x, 2.0f));
  struct ggml_tensor *difference = ggml_sub(ctx, ours, theirs);
  struct ggml_cgraph *graph = ggml_new_graph(ctx);
  ggml_build_forward_expand(graph, difference);
  if (ggml_graph_compute_with_ctx(ctx, graph, THREADS) != GGML_STATUS_SUCCESS) return 1;

  double error = 0, signal = 0;
  for (int i = 0; i < M * N; i++) {
    double d = ((float *)difference->data)[i], y = ((float *)theirs->data)[i];
    error += d * d;
    signal += y * y;
  }
  printf("%d x %d by %d x %d in a ggml graph: relative error^2 %.1e\n", M, K, N, K, error / signal);
  rows_free(&layer);
  lutmul_weights_free(weights);
  ggml_free(ctx);
  return error / signal < 1e-10 ? 0 : 1;
}
