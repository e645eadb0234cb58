/* The manifest of a prepared data folder, manifest.yaml: what the folder holds, made of what, with which tokenizer.
 * Written by `covenant data prepare` as the last file, so a folder with a manifest is complete. Read strictly: an
 * unknown, missing or doubled key, a value out of range or totals that do not add up are COV_EDATA with file and line.
 *
 *   format: 1                        version of this layout (not of the program)
 *   tokenizer: {kind, file, vocab, eos, hash}
 *   dtype: uint16
 *   recipe: HEX                      hash of settings and inputs; equal recipe = same data
 *   sources: [{path, bytes, hash}]   for people; not part of the identity
 *   settings: {document, text_key, heldout, seed, ...}   for people
 *   dropped: {duplicates, empty}
 *   splits: {train: {tokens, bytes, documents, shards: [{file, tokens, file_bytes, hash}]}, heldout: {...}}
 *
 * Hashes are BLAKE2b-256 in hex. `bytes` is bytes of text, without separators between documents. All Local. */
#ifndef COVENANT_DATA_MANIFEST_H
#define COVENANT_DATA_MANIFEST_H

#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "data/npy.h"
#include "data/tokenizer.h"

enum { COV_MANIFEST_FORMAT = 1, COV_HASH_TEXT = 2 * COV_HASH_BYTES + 1 };
#define COV_MANIFEST_FILE "manifest.yaml"

typedef enum { COV_SPLIT_TRAIN, COV_SPLIT_HELDOUT, COV_SPLIT_COUNT } cov_split;
/** "train", "heldout". */
const char *cov_split_name(cov_split split);

typedef struct {
  char file[64]; /* name inside the folder */
  int64_t tokens;
  int64_t file_bytes;
  char hash[COV_HASH_TEXT]; /* of the whole file */
} cov_shard_info;

typedef struct {
  int64_t tokens, text_bytes, documents;
  cov_shard_info *shards;
  int n_shards;
} cov_split_info;

typedef struct {
  char *path;
  int64_t bytes;
  char hash[COV_HASH_TEXT];
} cov_source_info;

typedef struct {
  cov_tokenizer_kind tokenizer;
  char tokenizer_file[64]; /* "" for the byte tokenizer */
  char tokenizer_hash[COV_HASH_TEXT];
  int vocab;
  uint32_t eos;
  cov_npy_type dtype;
  char recipe[COV_HASH_TEXT];
  char settings[256]; /* one line for people: how it was made */
  cov_source_info *sources;
  int n_sources;
  int64_t dropped_duplicates, dropped_empty;
  cov_split_info splits[COV_SPLIT_COUNT];
} cov_manifest;

/** Read `folder`/manifest.yaml into `*m`, which the caller releases with cov_manifest_free. A missing manifest is
 *  COV_EDATA and says that the folder is no prepared data or that its preparation did not end. */
cov_status cov_manifest_read(const char *folder, cov_manifest *m);
/** Write it (aside, synced, renamed). */
cov_status cov_manifest_write(const char *folder, const cov_manifest *m);
/** Fine on a zeroed one; leaves it zeroed. */
void cov_manifest_free(cov_manifest *m);
/** Append a zeroed shard (file name, tokens 0) to a split, a source to the list. */
cov_status cov_manifest_add_shard(cov_split_info *split, cov_shard_info **shard);
cov_status cov_manifest_add_source(cov_manifest *m, const char *path, cov_source_info **source);

/** What peers must share: BLAKE2b-256 over tokenizer, type, and tokens and hash of every shard in order. Neither
 *  paths nor settings enter. */
void cov_manifest_identity(const cov_manifest *m, uint8_t hash[COV_HASH_BYTES]);

#endif
