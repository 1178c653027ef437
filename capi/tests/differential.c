/* Products through the C ABI against a definition of their own, in double: random shapes, every kernel that this
   CPU can run, every mode, granularity and kind of table. differential [SEED [CASES]]; a failure prints the seed
   and the case. The tolerance is derived as in src/bound.rs. */
#include <lutmul.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The largest relative errors of rounding to f32, f64 and bf16, half of the smallest f32, and the smallest normal one. */
static const double U32 = 1.0 / (1 << 24), U64 = 1.0 / ((uint64_t)1 << 53), UBF16 = 1.0 / 256, TINY = 0.7006e-45,
                    NORMAL = 1.1755e-38;

/* ---- Random numbers: xorshift64*. */

static uint64_t state;

static uint64_t next(void) {
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return state * 0x2545F4914F6CDD1Du;
}

static size_t below(size_t n) { return (size_t)((next() >> 33) % n); }

static float noise(void) { return (float)(int32_t)(next() >> 32) / 2147483648.0f; }

/* ---- Failures. */

static uint64_t seed;
static size_t number;

static void fail(const char *what) {
  fprintf(stderr, "differential %llu: case %zu: %s\n", (unsigned long long)seed, number, what);
  exit(1);
}

static void check(lutmul_status status) {
  if (status != LUTMUL_OK) fail(lutmul_last_error());
}

static void *room(size_t bytes) {
  void *memory = calloc(bytes + 1, 1);
  if (!memory) fail("no memory");
  return memory;
}

/* ---- A case: what is multiplied. */

typedef struct {
  size_t m, n, k;
  float table[256];
  double largest_entry;
  int exact_image; /* integer modes have the table as it is */
  uint8_t *codes, *signs;  /* signs may be NULL */
  float *scales;
  size_t scale_rows, scale_cols, grid_cols, scales_count;
  const char *granularity;
  float *x, *bias, *before; /* bias may be NULL; before, where y is added to */
  size_t x_stride, y_stride;
  int relu;
} product;

static double scale_of(const product *p, size_t row, size_t col) {
  return p->scales[row / p->scale_rows * p->grid_cols + col / p->scale_cols];
}

static double weight(const product *p, size_t row, size_t col) {
  double w = p->table[p->codes[row * p->k + col]] * scale_of(p, row, col);
  int negative = p->signs && (p->signs[row * ((p->k + 7) / 8) + col / 8] >> (col % 8) & 1);
  return negative ? -w : w;
}

static void make_scales(product *p) {
  static const struct { const char *name; size_t rows, cols; } kinds[] = {
      {"tensor", 0, 0},   {"row", 1, 0},        {"group:32", 1, 32},     {"group:64", 1, 64},
      {"group:96", 1, 96}, {"block:3x32", 3, 32}, {"block:16x64", 16, 64}, {"group:20", 1, 20},
  };
  size_t kind = below(sizeof kinds / sizeof *kinds);
  p->granularity = kinds[kind].name;
  p->scale_rows = kinds[kind].rows ? kinds[kind].rows : p->n;
  p->scale_cols = kinds[kind].cols ? kinds[kind].cols : p->k;
  p->grid_cols = (p->k + p->scale_cols - 1) / p->scale_cols;
  p->scales_count = (p->n + p->scale_rows - 1) / p->scale_rows * p->grid_cols;
  p->scales = (float *)room(p->scales_count * sizeof(float));
  for (size_t i = 0; i < p->scales_count; i++) p->scales[i] = 0.01f * (1.5f + noise());
}

/* The table, read back from a handle where it is that of a format. */
static lutmul_table *make_table(product *p, int *signs) {
  static const char *formats[] = {"qins-linear", "int8", "qins-inverse", "e4m3", "e5m2"};
  size_t kind = below(7);
  lutmul_table *table;
  p->exact_image = kind < 2;
  *signs = kind == 0 || kind == 2 || kind == 5;
  if (kind < 5) {
    static const uint8_t code = 0;
    static const float one = 1;
    check(lutmul_table_of_format(formats[kind], &table));
    lutmul_codes codes = {sizeof codes, 1, 1, table, &code, 1, NULL, 0, &one, 1, "row", NULL, 0};
    lutmul_weights_info info;
    info.size = sizeof info;
    lutmul_weights *weights;
    check(lutmul_weights_create(&codes, &weights));
    check(lutmul_weights_describe(weights, &info));
    memcpy(p->table, info.table, sizeof p->table);
    check(lutmul_weights_free(weights));
  } else {
    for (int c = 0; c < 256; c++) p->table[c] = kind == 5 ? fabsf(noise()) : 3.0f * noise();
    check(lutmul_table_create(p->table, &table));
  }
  for (int c = 0; c < 256; c++)
    if (isfinite(p->table[c])) p->largest_entry = fmax(p->largest_entry, fabs(p->table[c]));
  return table;
}

static void make(product *p) {
  memset(p, 0, sizeof *p);
  p->m = 1 + below(below(3) ? 12 : 40);
  p->n = 1 + below(below(3) ? 20 : 150);
  p->k = 1 + below(below(4) ? 130 : 1200);
  p->x_stride = p->k + below(2) * below(9), p->y_stride = p->n + below(2) * below(9);
  make_scales(p);
  p->x = (float *)room(p->m * p->x_stride * sizeof(float));
  for (size_t i = 0; i < p->m * p->x_stride; i++) p->x[i] = below(13) ? noise() : 0.0f;
  if (below(2)) {
    p->bias = (float *)room(p->n * sizeof(float));
    for (size_t i = 0; i < p->n; i++) p->bias[i] = noise();
  }
  p->before = (float *)room(p->m * p->n * sizeof(float));
  if (below(2))
    for (size_t i = 0; i < p->m * p->n; i++) p->before[i] = noise();
  p->relu = (int)below(2);
}

static void make_codes(product *p, int signs) {
  p->codes = (uint8_t *)room(p->n * p->k);
  for (size_t i = 0; i < p->n * p->k; i++) {
    do p->codes[i] = (uint8_t)below(256);
    while (!isfinite(p->table[p->codes[i]]));
  }
  if (!signs) return;
  p->signs = (uint8_t *)room(p->n * ((p->k + 7) / 8));
  for (size_t i = 0; i < p->n * ((p->k + 7) / 8); i++) p->signs[i] = (uint8_t)next();
}

static void unmake(product *p) {
  free(p->codes), free(p->signs), free(p->scales), free(p->x), free(p->bias), free(p->before);
}

/* ---- What it should be, and how far from it a result may be: see src/bound.rs. */

static double gamma_of(size_t j, double u) { return (double)j * u / (1.0 - (double)j * u); }

/* The largest errors of a token's activations as integers. */
static void half_steps(const product *p, const char *mode, const float *x, double *half) {
  double limit = !strcmp(mode, "a24") ? 8290687 : !strcmp(mode, "a16") ? 32512 : 127, largest = 0;
  int multiplied = !strcmp(mode, "a8");
  if (multiplied) limit *= 255;
  for (size_t j = 0; j < p->k; j++) largest = fmax(largest, fabs(x[j]));
  for (size_t group = 0; group < p->k; group += 32) {
    size_t end = group + 32 < p->k ? group + 32 : p->k;
    double of_group = 0, multiplier = 1;
    for (size_t j = group; j < end; j++) of_group = fmax(of_group, fabs(x[j]));
    /* One more than it is: the library's own quotient may be rounded up. */
    if (multiplied && largest > 0) multiplier = ceil(of_group * limit / largest / 127) + 1;
    double step = fmin(multiplier, multiplied ? 255 : 1) * largest / limit;
    for (size_t j = group; j < end; j++)
      half[j] = step / 2 * (1 + 8 * U64) + gamma_of(4, U64) * fabs(x[j]);
  }
}

/* What an output should be, and how far from it a result may be. half is NULL in modes f32 and bf16. */
static double exact(const product *p, size_t token, size_t row, const char *mode, const double *half,
                    double *error) {
  const float *x = p->x + token * p->x_stride;
  double sum = 0, abs_sum = 0, steps = 0, image = 0;
  for (size_t j = 0; j < p->k; j++) {
    double w = weight(p, row, j);
    /* Half of the image's step, which is at most 2/65535 of the largest entry. */
    double off = p->exact_image ? 0 : p->largest_entry / 65535 * scale_of(p, row, j) * (1 + 8 * U64);
    sum += x[j] * w;
    abs_sum += fabs(x[j]) * (fabs(w) + (half ? off : 0));
    if (half) steps += half[j] * (fabs(w) + off), image += fabs(x[j]) * off;
  }
  if (half) {
    double d = steps + gamma_of(p->grid_cols + 3, U64) * (abs_sum + steps);
    *error = d + U32 * (abs_sum + d) + image + TINY;
  } else if (!strcmp(mode, "f32")) {
    *error = gamma_of(p->k + 4, U32) * abs_sum + (double)(p->k + 4) * TINY;
  } else {
    /* x is rounded to bf16, and the table where it isn't exact in it; what is subnormal may be taken for 0. */
    double rounded = p->exact_image ? UBF16 : UBF16 * (2 + UBF16), flushed = 0;
    for (size_t j = 0; j < p->k; j++) flushed += (fabs(x[j]) + p->largest_entry + 4) * scale_of(p, row, j);
    double gamma = gamma_of(p->k + 4, 2 * U32);
    *error = (rounded + gamma * (1 + rounded)) * abs_sum + (1 + gamma) * flushed * NORMAL;
  }
  /* Bias, activation, what y held: each rounds once more. */
  double y = sum + (p->bias ? p->bias[row] : 0.0);
  *error += U32 * (fabs(y) + *error) + TINY;
  if (p->relu && y < 0) y = 0;
  y += p->before[token * p->n + row];
  *error += U32 * (fabs(y) + *error) + TINY;
  *error *= 1 + 1e-9; /* This is rounded, too. */
  return y;
}

/* ---- What it is. */

/* y before the product: what is added to, and a mark between rows. It starts at an odd address. */
static float *poisoned(const product *p, uint8_t *memory) {
  const float mark = 12345.0f;
  uint8_t *y = memory + 1;
  for (size_t t = 0; t < p->m; t++)
    for (size_t i = 0; i < p->y_stride; i++) {
      const float *from = i < p->n ? &p->before[t * p->n + i] : &mark;
      memcpy(y + (t * p->y_stride + i) * sizeof(float), from, sizeof(float));
    }
  return (float *)(void *)y;
}

/* Takes the elements out, and looks at the marks. */
static void take(const product *p, const float *y, float *dense) {
  const uint8_t *from = (const uint8_t *)(const void *)y;
  for (size_t t = 0; t < p->m; t++)
    for (size_t i = 0; i < p->y_stride; i++) {
      float value;
      memcpy(&value, from + (t * p->y_stride + i) * sizeof(float), sizeof value);
      if (i < p->n) dense[t * p->n + i] = value;
      else if (value != 12345.0f) fail("memory between the rows of y was written to");
    }
}

static void multiply(const product *p, const lutmul_weights *weights, const char *kernel,
                     const char *mode, float *whole) {
  size_t size = p->m * p->n * sizeof(float);
  uint8_t *memory = (uint8_t *)room(p->m * p->y_stride * sizeof(float) + 1);
  float *parts = (float *)room(size);
  lutmul_epilogue epilogue = {sizeof epilogue, p->bias, p->bias ? p->n : 0, p->relu ? "relu" : NULL, 1};
  lutmul_matrix x = {p->x, p->m, p->k, p->x_stride, LUTMUL_F32, 0};
  lutmul_matrix_mut y = {poisoned(p, memory), p->m, p->n, p->y_stride, LUTMUL_F32, 0};
  lutmul_workspace *workspace;
  lutmul_activations *activations;

  lutmul_options options = {sizeof options, kernel, mode, below(2) ? 2u : 0u};
  check(lutmul_workspace_create(&options, &workspace));
  check(lutmul_workspace_reserve(workspace, weights, p->m));
  check(lutmul_matmul(workspace, weights, &x, &y, &epilogue));
  take(p, (const float *)y.data, whole);

  /* Ranges of rows have the bits of the whole. */
  check(lutmul_activations_create(&activations));
  check(lutmul_activations_reserve(activations, workspace, weights, p->m));
  check(lutmul_activations_pack(activations, workspace, weights, &x));
  y.data = poisoned(p, memory);
  for (size_t first = 0, end; first < p->n; first = end) {
    end = first + 1 + below(p->n - first);
    check(lutmul_matmul_rows(workspace, weights, activations, first, end, &y, &epilogue));
  }
  take(p, (const float *)y.data, parts);
  if (memcmp(whole, parts, size)) fail("ranges of rows have other bits than the whole");

  check(lutmul_activations_free(activations));
  check(lutmul_workspace_free(workspace));
  free(memory), free(parts);
}

/* Every kernel in a mode; adds up how many there were. */
static void compare(const product *p, const lutmul_weights *weights, const char *mode, size_t *products) {
  size_t count = p->m * p->n;
  int integer = strcmp(mode, "f32") && strcmp(mode, "bf16");
  float *y = (float *)room(count * sizeof *y), *first = (float *)room(count * sizeof *first);
  double *wanted = (double *)room(count * sizeof *wanted), *error = (double *)room(count * sizeof *error);
  double *half = (double *)room(p->k * sizeof *half);
  for (size_t token = 0; token < p->m; token++) {
    if (integer) half_steps(p, mode, p->x + token * p->x_stride, half);
    for (size_t row = 0; row < p->n; row++) {
      size_t j = token * p->n + row;
      wanted[j] = exact(p, token, row, mode, integer ? half : NULL, &error[j]);
    }
  }
  int kernels = 0;
  lutmul_kernel kernel;
  kernel.size = sizeof kernel;
  for (size_t i = 0; lutmul_kernel_at(i, &kernel) == LUTMUL_OK; i++) {
    if (!kernel.usable) continue;
    multiply(p, weights, kernel.name, mode, y);
    for (size_t j = 0; j < count; j++) {
      if (fabs(y[j] - wanted[j]) <= error[j]) continue;
      fprintf(stderr, "%zux%zux%zu, %s, mode %s, kernel %s: y[%zu,%zu] is %.9g, not %.9g +- %.2g\n", p->m,
              p->n, p->k, p->granularity, mode, kernel.name, j / p->n, j % p->n, y[j], wanted[j], error[j]);
      fail("too far from the definition");
    }
    if (!kernels++) memcpy(first, y, count * sizeof *y);
    if (integer && memcmp(y, first, count * sizeof *y)) fail("kernels give different bits");
    ++*products;
  }
  free(y), free(first), free(wanted), free(error), free(half);
}

int main(int argc, char **argv) {
  static const char *modes[] = {"f32", "bf16", "a24", "a16", "a8", "a8t"};
  seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  size_t cases = argc > 2 ? strtoull(argv[2], NULL, 10) : 60, products = 0;
  printf("differential %llu %zu\n", (unsigned long long)seed, cases);
  for (number = 0; number < cases; number++) {
    state = (seed + 1) * 0x9E3779B97F4A7C15u + number;
    for (int i = 0; i < 4; i++) next();
    product p;
    int signs;
    make(&p);
    lutmul_table *table = make_table(&p, &signs);
    make_codes(&p, signs);
    size_t signs_size = signs ? p.n * ((p.k + 7) / 8) : 0;
    lutmul_codes codes = {sizeof codes, p.n, p.k, table, p.codes, p.n * p.k, p.signs, signs_size,
                          p.scales, p.scales_count, p.granularity, "the case", 0};
    lutmul_weights *weights;
    check(lutmul_weights_create(&codes, &weights));
    check(lutmul_table_free(table));
    for (size_t mode = 0; mode < sizeof modes / sizeof *modes; mode++) {
      /* Integer modes take groups of multiples of 32. */
      if (mode > 1 && p.scale_cols == 20 && p.grid_cols > 1) continue;
      compare(&p, weights, modes[mode], &products);
    }
    check(lutmul_weights_free(weights));
    unmake(&p);
  }
  if (!products) fail("no product was computed");
  printf("%zu products of %zu cases are as defined\n", products, cases);
  return 0;
}
