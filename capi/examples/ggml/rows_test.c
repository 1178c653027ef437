/* rows.c without ggml: shares of 1 to 7 threads, one after the other, give the bits of the whole. */
#include <stdio.h>
#include <string.h>

#include "rows.h"

enum { M = 11, N = 333, K = 100, MOST = 7 };

static float w[N * K], x[M * K], y[M * N], whole[M * N];

int main(void) {
  for (int i = 0; i < N * K; i++) w[i] = (float)(i % 251) / 251.0f - 0.5f;
  for (int i = 0; i < M * K; i++) x[i] = (float)(i % 127) / 127.0f - 0.5f;
  lutmul_matrix original = {w, N, K, 0, LUTMUL_F32, 0}, from = {x, M, K, 0, LUTMUL_F32, 0};
  lutmul_matrix_mut to = {y, M, N, 0, LUTMUL_F32, 0};
  lutmul_weights *weights;
  rows_layer layer;
  if (lutmul_weights_encode(&original, "kmeans", "row", NULL, &weights) ||
      rows_create(&layer, weights, "a16", M, MOST) || rows_pack(&layer, &from)) {
    fprintf(stderr, "%s\n", lutmul_last_error());
    return 1;
  }
  for (int nth = 1; nth <= MOST; nth++) {
    memset(y, 0xFF, sizeof y);
    for (int ith = 0; ith < nth; ith++) {
      if (rows_multiply(&layer, &to, ith, nth)) {
        fprintf(stderr, "%s\n", lutmul_last_error());
        return 1;
      }
    }
    if (nth == 1) memcpy(whole, y, sizeof y);
    if (memcmp(y, whole, sizeof y)) {
      fprintf(stderr, "%d shares give other bits than the whole\n", nth);
      return 1;
    }
  }
  if (rows_multiply(&layer, &to, MOST, MOST + 1) != LUTMUL_RANGE) return 1;
  printf("shares of 1 to %d threads give the same bits\n", MOST);
  rows_free(&layer);
  lutmul_weights_free(weights);
  return 0;
}
