/* Multiplies by a layer of a file that `lutmul convert` has written: layer FILE [NAME]. */
#include <lutmul.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void check(lutmul_status status) {
  if (status == LUTMUL_OK) return;
  fprintf(stderr, "status %d: %s\n", (int)status, lutmul_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "layer FILE [NAME]\n");
    return 2;
  }
  lutmul_file *file;
  check(lutmul_file_open(argv[1], &file));
  lutmul_layer layer = {sizeof layer, NULL, NULL, NULL, 0, 0};
  check(lutmul_file_layer_at(file, 0, &layer));
  lutmul_weights *weights;
  check(lutmul_file_weights(file, argc > 2 ? argv[2] : layer.name, &weights));
  lutmul_file_free(file); /* The weights keep the map. */

  lutmul_weights_info info = {sizeof info, 0, 0, NULL, NULL, NULL, 0, 0, 0, NULL, 0};
  check(lutmul_weights_describe(weights, &info));
  size_t m = 3, n = info.n, k = info.k;
  float *x = (float *)malloc(m * k * sizeof *x), *y = (float *)calloc(m * n, sizeof *y);
  float *decoded = (float *)calloc(n * k, sizeof *decoded);
  if (!x || !y || !decoded) return 1;
  for (size_t i = 0; i < m * k; i++) x[i] = (float)(i % 127) / 127.0f - 0.5f;

  lutmul_workspace *workspace;
  lutmul_matrix from = {x, m, k, 0, LUTMUL_F32, 0};
  lutmul_matrix_mut to = {y, m, n, 0, LUTMUL_F32, 0}, out = {decoded, n, k, 0, LUTMUL_F32, 0};
  check(lutmul_workspace_create(NULL, &workspace));
  check(lutmul_workspace_reserve(workspace, weights, m));
  check(lutmul_matmul(workspace, weights, &from, &to, NULL));

  /* The same with decoded weights, in double. */
  check(lutmul_weights_decode(weights, 0, n, &out, NULL));
  double error = 0, signal = 0;
  for (size_t i = 0; i < m * n; i++) {
    const float *xs = x + i / n * k, *ws = decoded + i % n * k;
    double sum = 0;
    for (size_t j = 0; j < k; j++) sum += (double)xs[j] * ws[j];
    error += (y[i] - sum) * (y[i] - sum);
    signal += sum * sum;
  }
  error = sqrt(error / signal);
  lutmul_kernel kernel;
  kernel.size = sizeof kernel;
  check(lutmul_workspace_kernel(workspace, &kernel));
  printf("%zu x %zu, %zu bytes, kernel %s: relative error %.1e\n", n, k, info.bytes, kernel.name, error);

  lutmul_workspace_free(workspace);
  lutmul_weights_free(weights);
  free(x), free(y), free(decoded);
  return error < 1e-5 ? 0 : 1;
}
