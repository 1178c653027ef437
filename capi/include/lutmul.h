// lutmul: products of matrices whose weights are 8-bit codes into a table of 256 floats.
//
//     W[n,k] = sign[n,k] * table[code[n,k]] * scale         y[m,n] = sum over k of x[m,k] * W[n,k]
//
// Words: n out features (rows of W), k in features (columns of W and x), m tokens (rows of x and y). A code is a
// byte, an index into the table. A sign plane, which some formats have, has a bit for each weight. A scale is for
// the whole matrix, a row, a group of a row or a block. A mode says how x and the sums are represented: "f32",
// "bf16", or one of the integer modes (see lutmul_options), which give the same bits on every CPU, with every kernel, number of
// threads, row range and m. docs/ has formats, modes and bounds.
//
// STATUS. Every call that can fail returns a lutmul_status; LUTMUL_OK is 0. After a failure lutmul_last_error()
// tells which argument is wrong, and why; what the call would have written is as it was, but for a handle, which
// is NULL. Nothing is printed (but for a line of Rust's when it meets a fault of lutmul's own, LUTMUL_INTERNAL), and no
// state is kept but in handles and that text.
//
// HANDLES (lutmul_table, lutmul_weights, lutmul_file, lutmul_activations, lutmul_workspace) are made by a function
// that stores them where its last argument points, and freed by their ..._free. A handle needs none of those that
// it was made from. A freed handle, or one of another kind, is mostly refused with LUTMUL_HANDLE; don't rely on it.
//
// STRUCTS WITH A FIELD `size` grow in later versions. Set size to the sizeof of the struct, and all that you don't
// use to zero: `lutmul_options options = {.size = sizeof options};`, in C++ `lutmul_options options = {sizeof
// options};`. A program may be older than the library; it may be newer if the fields that the library does not
// know are zero.
//
// POINTERS may have any alignment. Memory that a function writes to must be initialised. Strings are UTF-8. Sizes
// are numbers of elements, where bytes are not said; they must be below PTRDIFF_MAX bytes.
//
// THREADS. Any function may be called on any thread. Tables, weights and files never change: any number of calls may
// use them at a time. A workspace serves one call at a time, activations any number unless they are being packed:
// calls that come in between are refused with LUTMUL_BUSY. Freeing must not overlap with any other use.
//
// FORK. All handles can be used and freed in a child that was forked while no call was under way. lutmul's threads are
// not there, as no thread is but the one that forked: calls that would use those of a workspace work on the calling
// thread, with the same results. A workspace that the child makes has threads. What a call of another thread was using
// when the process forked stays in use in the child, for ever: LUTMUL_BUSY.
//
// FLOATING-POINT ENVIRONMENT. Integer modes refuse a thread that rounds in another direction than to nearest, or
// flushes subnormal numbers to zero; modes "f32", "bf16" and encoding take it as it is, and give other numbers then.
//
// MEMORY. A product allocates nothing. What it needs is in a workspace, and reserved before.
//
// The smallest use is examples/smallest.c of the source. Link with what `pkg-config --libs lutmul` prints.


#ifndef LUTMUL_H
#define LUTMUL_H

#include <stddef.h>
#include <stdint.h>

// The version of this interface that the header describes.
#define LUTMUL_ABI_VERSION 1

// What a call returns. The numbers never change; later versions may add to them.
typedef enum {
  // Done.
  LUTMUL_OK = 0,
  // A pointer is NULL that must not be.
  LUTMUL_NULL = 1,
  // A handle is none of this library's, of another kind, or freed.
  LUTMUL_HANDLE = 2,
  // A struct's `size` is not its size, or it is of a later lutmul and sets what this one does not know.
  LUTMUL_STRUCT = 3,
  // A size is negative, or too large for the address space.
  LUTMUL_SIZE = 4,
  // Shapes, strides or lengths don't fit each other.
  LUTMUL_SHAPE = 5,
  // A range of rows, or an index, is outside of what there is.
  LUTMUL_RANGE = 6,
  // A number that means nothing, or not in this combination.
  LUTMUL_VALUE = 7,
  // A name is not known, or not UTF-8.
  LUTMUL_NAME = 8,
  // This CPU can't run the kernel.
  LUTMUL_UNSUPPORTED = 9,
  // A weight, scale or table entry in use is NaN or infinite.
  LUTMUL_NON_FINITE = 10,
  // Activations are packed for another kernel, mode or format than the product's.
  LUTMUL_PACKING = 11,
  // The workspace or the activations have less memory reserved than the product needs.
  LUTMUL_TOO_SMALL = 12,
  // The handle is in use by another call at this moment.
  LUTMUL_BUSY = 13,
  // This thread rounds in another direction than to nearest, or flushes subnormal numbers to zero.
  LUTMUL_ENVIRONMENT = 14,
  // A file can't be read, or is not what it should be.
  LUTMUL_FILE = 15,
  // There is not enough memory, or no thread to be had.
  LUTMUL_RESOURCES = 16,
  // A fault of lutmul's own.
  LUTMUL_INTERNAL = 17,
} lutmul_status;

// Types of elements.
typedef enum {
  // float.
  LUTMUL_F32 = 0,
  // IEEE 754 binary16, in 2 bytes.
  LUTMUL_F16 = 1,
  // bfloat16, in 2 bytes.
  LUTMUL_BF16 = 2,
} lutmul_element;

// x, packed (in integer modes quantised) for a kernel and a mode. Any number of calls may multiply by it at
// a time; none while it is being packed.
typedef struct lutmul_activations lutmul_activations;

// A model of coded layers, memory-mapped: a file as `lutmul convert` writes it, or one of FP8 or int8 by other
// programs, or the folder of such a model. Never changes: any threads may use it at a time.
typedef struct lutmul_file lutmul_file;

// A table of 256 floats, the values that codes stand for. Never changes: any threads may use it.
typedef struct lutmul_table lutmul_table;

// A matrix of weights, [n, k]. Never changes: any threads may use it at a time.
typedef struct lutmul_weights lutmul_weights;

// How to multiply (kernel, mode, threads), and memory for it. One call at a time may use a workspace; a
// second one is refused with LUTMUL_BUSY.
//
// Its threads are those of the process that made it. In a child that was forked later, its calls do all work on
// the calling thread, with the same results; what is to have threads there is made there.
typedef struct lutmul_workspace lutmul_workspace;

// A kernel: the code for one vector unit.
typedef struct {
  // The sizeof of this struct, set before the call.
  size_t size;
  // Its name, as lutmul_options.kernel takes it.
  char name[32];
  // The CPU features that it needs, with commas between; shortened if they don't fit.
  char needs[120];
  // Whether this CPU can run it: 1 or 0.
  uint64_t usable;
} lutmul_kernel;

// What weights are made of. Counts are there to be checked against n and k.
typedef struct {
  // The sizeof of this struct.
  size_t size;
  // Out features: rows.
  size_t n;
  // In features: columns.
  size_t k;
  // The table; may be freed afterwards.
  const lutmul_table *table;
  // Codes, [n, k] row-major. Not copied: they must stay until the weights are freed.
  const uint8_t *codes;
  // Bytes of the codes: n · k.
  size_t codes_size;
  // Sign plane, [n, ⌈k/8⌉] row-major: bit k % 8 of byte k / 8 is set for a negative weight; bits beyond k
  // are ignored. NULL if there is none. Not copied: as the codes.
  const uint8_t *signs;
  // Bytes of the sign plane: n · ⌈k/8⌉, or 0.
  size_t signs_size;
  // Scales, finite, row-major over the grid of what they cover, at any alignment. Copied.
  const float *scales;
  // How many there are: 1, n, n · ⌈k/N⌉ or ⌈n/R⌉ · ⌈k/C⌉.
  size_t scales_count;
  // What a scale covers: "tensor", "row", "group:N" (N weights of a row) or "block:RxC".
  const char *granularity;
  // What errors call the weights; NULL: "weights". Copied.
  const char *name;
  // 1: codes in use whose entry is NaN or infinite are propagated as IEEE 754 says, in modes "f32" and "bf16"
  // only. 0: they are an error, LUTMUL_NON_FINITE.
  uint64_t propagate_non_finite;
} lutmul_codes;

// A matrix to read, row-major. The pointer need not be aligned.
typedef struct {
  // The first element; may be NULL if there are none.
  const void *data;
  // Number of rows: tokens in x.
  size_t rows;
  // Number of columns: in features in x.
  size_t cols;
  // Elements from one row to the next; 0 if rows follow each other.
  size_t stride;
  // A lutmul_element.
  uint32_t element;
  // 0.
  uint32_t reserved;
} lutmul_matrix;

// Where weights lie and what they are. Pointers are those of the weights: they end with them.
typedef struct {
  // The sizeof of this struct, set before the call.
  size_t size;
  // Out features: rows.
  size_t n;
  // In features: columns.
  size_t k;
  // Codes, [n, k].
  const uint8_t *codes;
  // Sign plane, [n, ⌈k/8⌉], or NULL.
  const uint8_t *signs;
  // Scales, row-major over their grid.
  const float *scales;
  // How many scales there are.
  size_t scales_count;
  // Rows that a scale covers, at most n.
  size_t scale_rows;
  // Columns that a scale covers, at most k.
  size_t scale_cols;
  // The table: 256 floats.
  const float *table;
  // Bytes that a product reads.
  size_t bytes;
} lutmul_weights_info;

// A matrix to write to; otherwise as lutmul_matrix. What lies between its rows is left alone.
typedef struct {
  // The first element; may be NULL if there are none.
  void *data;
  // Number of rows: tokens in y.
  size_t rows;
  // Number of columns: out features in y.
  size_t cols;
  // Elements from one row to the next; 0 if rows follow each other.
  size_t stride;
  // A lutmul_element.
  uint32_t element;
  // 0.
  uint32_t reserved;
} lutmul_matrix_mut;

// What encoding has cost: decoded weights against the original ones.
typedef struct {
  // The sizeof of this struct, set before the call.
  size_t size;
  // Weights compared.
  size_t count;
  // Mean of |decoded − original|.
  double mean_abs;
  // Largest |decoded − original|.
  double max_abs;
  // Root of the mean of (decoded − original)².
  double rms;
  // Root of the mean of original².
  double original_rms;
  // 20 · log10(original_rms / rms) in dB; infinite without an error.
  double sqnr_db;
  // Share of weights whose code has the smallest or the largest entry in use.
  double share_at_ends;
  // Different codes in use, of 256.
  size_t codes_used;
} lutmul_error_report;

// A layer of a file. The strings are the file's: they end with it.
typedef struct {
  // The sizeof of this struct, set before the call.
  size_t size;
  // Its name: that of the original tensor without ".weight".
  const char *name;
  // Its format.
  const char *format;
  // What a scale covers, as in lutmul_codes.
  const char *granularity;
  // Out features: rows.
  size_t n;
  // In features: columns.
  size_t k;
} lutmul_layer;

// How a workspace multiplies. All zeros but `size` are the defaults; NULL in place of the struct, too.
typedef struct {
  // The sizeof of this struct.
  size_t size;
  // The name of the kernel; NULL: what the environment variable LUTMUL_ISA names, or else the best that
  // this CPU can run.
  const char *kernel;
  // The mode: "f32" (NULL, too), "bf16", "a24", "a16", "a8" or "a8t".
  const char *mode;
  // Threads of the workspace's own, which lutmul_matmul and lutmul_matmul_packed hand their work to. 0 or
  // 1: none; the calling thread does it all. At most 1024.
  size_t threads;
} lutmul_options;

// What follows the sum: y = activation(sum + bias), or y + that. All zeros but `size` change nothing; NULL in
// place of the struct, too.
typedef struct {
  // The sizeof of this struct.
  size_t size;
  // One float for each row of the weights, or NULL. At any alignment; one that is not aligned is copied by
  // each call.
  const float *bias;
  // How many there are: n, also where only some rows are computed.
  size_t bias_count;
  // The activation function: "none" (NULL, too), "relu", "silu", "gelu-erf" or "gelu-tanh".
  const char *activation;
  // 1: the result is added to what y holds. 0: it replaces it.
  uint64_t accumulate;
} lutmul_epilogue;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of this interface that the library has: compare it with LUTMUL_ABI_VERSION. It goes up when
// something that was there is changed, never when something is added.
uint32_t lutmul_abi_version(void);

// What went wrong in the last call on this thread that failed: function, argument and reason, in UTF-8.
// Empty if none did. Calls that succeed leave it as it is.
//
// The text is there until another call on this thread fails, or the thread ends.
const char *lutmul_last_error(void);

// Tells of the kernel at an index of the list, which is in order of preference: the first usable one is
// the default. LUTMUL_RANGE beyond the end of the list.
lutmul_status lutmul_kernel_at(size_t index,
                               lutmul_kernel *kernel);

// Makes a table of 256 floats, which are copied. Entries may be NaN or infinite, but not all.
lutmul_status lutmul_table_create(const float *values, lutmul_table **table);

// Makes the table of a format: "qins-linear", "e4m3", or another name of those that docs/formats.md lists. A format
// whose table is fitted to the weights, as "kmeans" is, has none to give: LUTMUL_VALUE.
lutmul_status lutmul_table_of_format(const char *format,
                                     lutmul_table **table);

// Frees a table, or nothing if it is NULL. Weights that were made with it stay as they are.
lutmul_status lutmul_table_free(lutmul_table *table);

// Makes weights of codes that the caller has. Codes and signs are borrowed, at any alignment; nothing is
// repacked.
lutmul_status lutmul_weights_create(const lutmul_codes *codes,
                                    lutmul_weights **weights);

// Encodes a matrix of floats, [n, k], whose rows follow each other, into a format: "qins-linear", "e4m3", or
// another name of those that docs/formats.md lists.
//
// granularity is what a scale covers, as in lutmul_codes; "row" is a good choice. The work is done by the
// threads of the workspace, which may be NULL: then by the calling one. The result is the same.
lutmul_status lutmul_weights_encode(const lutmul_matrix *original,
                                    const char *format,
                                    const char *granularity,
                                    lutmul_workspace *workspace,
                                    lutmul_weights **weights);

// Does now what the first product would do: looks for codes in use that stand for NaN or infinity, where the
// table has such entries. LUTMUL_NON_FINITE if there are any and they are not propagated.
lutmul_status lutmul_weights_prepare(const lutmul_weights *weights,
                                     lutmul_workspace *workspace);

// Tells of weights: shape, and where their parts lie.
lutmul_status lutmul_weights_describe(const lutmul_weights *weights, lutmul_weights_info *info);

// Decodes rows row_begin to row_end − 1 into out, [row_end − row_begin, k], whose rows follow each other. The
// work is done by the threads of the workspace, which may be NULL.
lutmul_status lutmul_weights_decode(const lutmul_weights *weights,
                                    size_t row_begin,
                                    size_t row_end,
                                    const lutmul_matrix_mut *out,
                                    lutmul_workspace *workspace);

// Compares weights with the matrix that they were encoded from, [n, k], whose rows follow each other. The work
// is done by the threads of the workspace, which may be NULL; the result is the same.
lutmul_status lutmul_weights_compare(const lutmul_weights *weights,
                                     const lutmul_matrix *original,
                                     lutmul_workspace *workspace,
                                     lutmul_error_report *report);

// Frees weights, or nothing if they are NULL. No call may be using them.
lutmul_status lutmul_weights_free(lutmul_weights *weights);

// Opens a file or a folder, maps it, and checks that its layers are whole. Their weights are read where they are
// mapped, when they are used first. Layers of floats are left out; a model that has no others is LUTMUL_FILE.
//
// No other program may shorten or rewrite the file while it or weights of it are open; to replace it under its
// name is fine. The path is UTF-8.
lutmul_status lutmul_file_open(const char *path,
                               lutmul_file **file);

// Tells of the layer at an index, in the order of names. LUTMUL_RANGE beyond the last one.
lutmul_status lutmul_file_layer_at(const lutmul_file *file, size_t index, lutmul_layer *layer);

// Reads the whole file now, and has its pages ready. Worth it if all layers will be used, more than once.
lutmul_status lutmul_file_prefault(const lutmul_file *file);

// Makes weights of a layer: its codes and signs stay where they are mapped, shared by all weights of the file.
// name is the layer's, or that of the original tensor. The file may be freed before its weights.
lutmul_status lutmul_file_weights(const lutmul_file *file,
                                  const char *name,
                                  lutmul_weights **weights);

// Frees a file, or nothing if it is NULL. Weights made of it stay as they are.
lutmul_status lutmul_file_free(lutmul_file *file);

// Makes a workspace, with its threads but without memory yet: see lutmul_workspace_reserve.
//
// options may be NULL. What it points to is not needed afterwards.
lutmul_status lutmul_workspace_create(const lutmul_options *options, lutmul_workspace **workspace);

// Tells how many bytes lutmul_workspace_reserve would reserve in a new workspace with these options, for
// products of up to max_tokens rows of x with these weights.
//
// activations gets the bytes of packed x, scratch those of the calling thread and the workspace's own; either
// may be NULL.
lutmul_status lutmul_workspace_size(const lutmul_options *options,
                                    const lutmul_weights *weights,
                                    size_t max_tokens,
                                    size_t *activations,
                                    size_t *scratch);

// Reserves memory for products of up to max_tokens rows of x with these weights, and with all that need no
// more: they allocate nothing. May be called again for other weights; what was reserved before stays.
//
// Products that need more than is reserved are refused with LUTMUL_TOO_SMALL.
lutmul_status lutmul_workspace_reserve(lutmul_workspace *workspace,
                                       const lutmul_weights *weights,
                                       size_t max_tokens);

// Reserves only what lutmul_matmul_packed and lutmul_matmul_rows need, whose x is packed elsewhere.
lutmul_status lutmul_workspace_reserve_scratch(lutmul_workspace *workspace,
                                               const lutmul_weights *weights,
                                               size_t max_tokens);

// Tells of the kernel that a workspace multiplies with.
lutmul_status lutmul_workspace_kernel(const lutmul_workspace *workspace, lutmul_kernel *kernel);

// Frees a workspace and ends its threads, or does nothing if it is NULL. No call may be using it.
lutmul_status lutmul_workspace_free(lutmul_workspace *workspace);

// Makes activations without memory yet: see lutmul_activations_reserve.
lutmul_status lutmul_activations_create(lutmul_activations **activations);

// Reserves memory to pack up to max_tokens rows of x for these weights, and for all that need no more, with
// kernel and mode of the workspace. May be called again; what was packed is gone then.
lutmul_status lutmul_activations_reserve(lutmul_activations *activations,
                                         const lutmul_workspace *workspace,
                                         const lutmul_weights *weights,
                                         size_t max_tokens);

// Packs x, [m, k], with kernel, mode and threads of the workspace: for products with these weights, and with
// others of the same k whose table is decoded alike (those of the same format are).
//
// x is not needed afterwards.
lutmul_status lutmul_activations_pack(lutmul_activations *activations,
                                      lutmul_workspace *workspace,
                                      const lutmul_weights *weights,
                                      const lutmul_matrix *x);

// Frees activations, or nothing if they are NULL. No call may be using them.
lutmul_status lutmul_activations_free(lutmul_activations *activations);

// Computes y = x · Wᵀ and what the epilogue says: x is [m, k], W [n, k], y [m, n]. On the workspace's threads,
// or on the calling one if it has none.
//
// epilogue may be NULL. x and y must not overlap. After a failure y is as it was.
lutmul_status lutmul_matmul(lutmul_workspace *workspace,
                            const lutmul_weights *weights,
                            const lutmul_matrix *x,
                            const lutmul_matrix_mut *y,
                            const lutmul_epilogue *epilogue);

// Computes the same with an x that was packed before, with the kernel and mode of this workspace.
lutmul_status lutmul_matmul_packed(lutmul_workspace *workspace,
                                   const lutmul_weights *weights,
                                   const lutmul_activations *activations,
                                   const lutmul_matrix_mut *y,
                                   const lutmul_epilogue *epilogue);

// Computes rows row_begin to row_end − 1 of the weights only, on the calling thread: columns row_begin to
// row_end − 1 of y, which is the whole matrix, [m, n]. The other columns are left alone.
//
// For runtimes that have threads of their own. Several of these calls may share weights, activations and y at
// a time, if each has a workspace of its own and no row is in two ranges. Whatever the ranges, the result has
// the same bits as that of lutmul_matmul. Ranges of 64 rows and more are as fast as the whole; multiples of
// 48 are best for many tokens.
lutmul_status lutmul_matmul_rows(lutmul_workspace *workspace,
                                 const lutmul_weights *weights,
                                 const lutmul_activations *activations,
                                 size_t row_begin,
                                 size_t row_end,
                                 const lutmul_matrix_mut *y,
                                 const lutmul_epilogue *epilogue);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LUTMUL_H */
