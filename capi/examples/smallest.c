/* The smallest use: encode a matrix, multiply by it. */
#include <lutmul.h>
#include <stdio.h>

int main(void) {
  float w[3 * 64], x[2 * 64], y[2 * 3] = {0};
  for (int i = 0; i < 3 * 64; i++) w[i] = (float)(i % 7) - 3.0f;
  for (int i = 0; i < 2 * 64; i++) x[i] = (float)(i % 5) - 2.0f;

  lutmul_matrix original = {w, 3, 64, 0, LUTMUL_F32, 0}, from = {x, 2, 64, 0, LUTMUL_F32, 0};
  lutmul_matrix_mut to = {y, 2, 3, 0, LUTMUL_F32, 0};
  lutmul_weights *weights;
  lutmul_workspace *workspace;
  if (lutmul_weights_encode(&original, "qins-linear", "row", NULL, &weights) ||
      lutmul_workspace_create(NULL, &workspace) ||
      lutmul_workspace_reserve(workspace, weights, 2) ||
      lutmul_matmul(workspace, weights, &from, &to, NULL)) {
    fprintf(stderr, "%s\n", lutmul_last_error());
    return 1;
  }
  for (int i = 0; i < 2 * 3; i++) printf("%g\n", y[i]);
  lutmul_workspace_free(workspace);
  lutmul_weights_free(weights);
  return 0;
}
