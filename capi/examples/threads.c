/* Threads of one's own share a product by ranges of rows, and get the bits that one thread gets. */
#include <lutmul.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { M = 20, N = 1000, K = 512, THREADS = 4, ROWS = 64 };

static float w[N * K], x[M * K], y[M * N], alone[M * N];

static lutmul_weights *weights;
static lutmul_activations *activations;

static size_t next_row;
static pthread_mutex_t next_row_lock = PTHREAD_MUTEX_INITIALIZER;

static void check(lutmul_status status) {
  if (status == LUTMUL_OK) return;
  fprintf(stderr, "status %d: %s\n", (int)status, lutmul_last_error());
  exit(1);
}

/* Where a range of rows ends. */
static size_t end_of(size_t first) {
  size_t n = N;
  return first + ROWS < n ? first + ROWS : n;
}

/* The first of the next rows, which nobody has; N if there are none. */
static size_t take_rows(void) {
  pthread_mutex_lock(&next_row_lock);
  size_t first = next_row;
  next_row = end_of(first);
  pthread_mutex_unlock(&next_row_lock);
  return first;
}

/* What a thread does, with a workspace that nobody else uses. */
static void *work(void *argument) {
  lutmul_workspace *workspace = (lutmul_workspace *)argument;
  lutmul_matrix_mut to = {y, M, N, 0, LUTMUL_F32, 0};
  for (size_t first = take_rows(); first < N; first = take_rows()) {
    check(lutmul_matmul_rows(workspace, weights, activations, first, end_of(first), &to, NULL));
  }
  return NULL;
}

int main(void) {
  for (int i = 0; i < N * K; i++) w[i] = (float)(i % 251) / 251.0f - 0.5f;
  for (int i = 0; i < M * K; i++) x[i] = (float)(i % 127) / 127.0f - 0.5f;
  lutmul_matrix original = {w, N, K, 0, LUTMUL_F32, 0}, from = {x, M, K, 0, LUTMUL_F32, 0};
  lutmul_matrix_mut to = {alone, M, N, 0, LUTMUL_F32, 0};

  const char *modes[] = {"f32", "bf16", "a24", "a16", "a8", "a8t"};
  for (size_t mode = 0; mode < sizeof modes / sizeof *modes; mode++) {
    lutmul_options options = {sizeof options, NULL, modes[mode], 0};
    lutmul_workspace *workspace, *workspaces[THREADS];
    check(lutmul_weights_encode(&original, "qins-linear", "row", NULL, &weights));
    check(lutmul_workspace_create(&options, &workspace));
    check(lutmul_workspace_reserve(workspace, weights, M));
    check(lutmul_matmul(workspace, weights, &from, &to, NULL));

    /* x is packed once; each thread has scratch of its own. */
    check(lutmul_activations_create(&activations));
    check(lutmul_activations_reserve(activations, workspace, weights, M));
    check(lutmul_activations_pack(activations, workspace, weights, &from));
    pthread_t threads[THREADS];
    next_row = 0;
    memset(y, 0xFF, sizeof y);
    for (int i = 0; i < THREADS; i++) {
      check(lutmul_workspace_create(&options, &workspaces[i]));
      check(lutmul_workspace_reserve_scratch(workspaces[i], weights, M));
      if (pthread_create(&threads[i], NULL, work, workspaces[i])) return 1;
    }
    for (int i = 0; i < THREADS; i++) {
      pthread_join(threads[i], NULL);
      lutmul_workspace_free(workspaces[i]);
    }
    lutmul_activations_free(activations);
    lutmul_workspace_free(workspace);
    lutmul_weights_free(weights);
    if (memcmp(y, alone, sizeof y)) {
      fprintf(stderr, "mode %s: %d threads give other bits than one\n", modes[mode], THREADS);
      return 1;
    }
    printf("mode %s: %d threads give the same bits as one\n", modes[mode], THREADS);
  }
  return 0;
}
