/* The default corpus: real English out of documentation packages of the distribution, so that a first run needs no
 * download. Sources in order of preference; AUTO takes the first that is there:
 * - wordnet: glosses of WordNet 3.0 (Debian package wordnet-base), "word, word: gloss" for each synset. The
 *   recommended one; its measured figures are in docs and in simulation.md section 1.
 * - reference: Debian Reference (package debian-reference-en), paragraphs of its plain text. Needs gzip.
 * - project: this project's own documentation (*.md). Small; a run on it is a test, not a result.
 * Written to the folder: corpus.txt, documents separated by blank lines (what `covenant data prepare` expects by
 * default), and SOURCE.txt with origin and licence. All Local. */
#ifndef COVENANT_DATA_CORPUS_H
#define COVENANT_DATA_CORPUS_H

#include <stdint.h>

#include "base/status.h"

typedef enum { COV_CORPUS_AUTO, COV_CORPUS_WORDNET, COV_CORPUS_REFERENCE, COV_CORPUS_PROJECT } cov_corpus_source;

typedef struct {
  cov_corpus_source source;
  const char *share;   /* where packages put their data: "/usr/share" */
  const char *project; /* root of the project's documentation: "." */
  const char *folder;  /* output, created */
} cov_corpus_params;

typedef struct {
  cov_corpus_source source; /* the one used */
  int64_t documents, bytes;
  char path[4096]; /* of corpus.txt */
} cov_corpus_result;

/** Write the corpus. COV_EDATA if the wanted source (for AUTO: any) is not installed, naming the package. */
cov_status cov_corpus_write(const cov_corpus_params *p, cov_corpus_result *result);
/** "auto", "wordnet", "reference", "project". */
cov_status cov_corpus_source_parse(const char *text, cov_corpus_source *source);
const char *cov_corpus_source_name(cov_corpus_source source);

#endif
