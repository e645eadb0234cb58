#include "data/sentencepiece_shim.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

struct covi_sentencepiece {
  sentencepiece::SentencePieceProcessor processor;
};

namespace {

class Lines : public sentencepiece::SentenceIterator {
public:
  Lines(covi_sentencepiece_lines next, void *context) : next_(next), context_(context) {
    Next();
  }
  bool done() const override {
    return done_;
  }
  void Next() override {
    const char *text = nullptr;
    size_t bytes = 0;
    done_ = next_(context_, &text, &bytes) == 0;
    if (!done_) value_.assign(text, bytes);
  }
  const std::string &value() const override {
    return value_;
  }
  sentencepiece::util::Status status() const override {
    return sentencepiece::util::Status();
  }

private:
  covi_sentencepiece_lines next_;
  void *context_;
  std::string value_;
  bool done_ = false;
};

int fail(char *error, size_t error_bytes, const char *text) {
  std::snprintf(error, error_bytes, "%s", text);
  return 1;
}

/* Runs `work`, which returns a Status; exceptions become messages. */
template <typename Work> int guarded(char *error, size_t error_bytes, Work work) {
  try {
    sentencepiece::util::Status status = work();
    return status.ok() ? 0 : fail(error, error_bytes, status.ToString().c_str());
  } catch (const std::exception &e) {
    return fail(error, error_bytes, e.what());
  } catch (...) {
    return fail(error, error_bytes, "unknown exception");
  }
}

/* malloc'ed copy with a NUL behind it; throws if there is no memory. */
char *copied(const std::string &s) {
  char *p = static_cast<char *>(std::malloc(s.size() + 1));
  if (!p) throw std::bad_alloc();
  std::memcpy(p, s.data(), s.size());
  p[s.size()] = '\0';
  return p;
}

} // namespace

extern "C" {

int covi_sentencepiece_open(const void *model, size_t bytes, covi_sentencepiece **out, char *error,
                            size_t error_bytes) {
  covi_sentencepiece *p = nullptr;
  *out = nullptr;
  int failed = guarded(error, error_bytes, [&] {
    p = new covi_sentencepiece;
    return p->processor.LoadFromSerializedProto(absl::string_view(static_cast<const char *>(model), bytes));
  });
  if (failed) {
    delete p;
    return failed;
  }
  *out = p;
  return 0;
}

void covi_sentencepiece_close(covi_sentencepiece *p) {
  delete p;
}

int covi_sentencepiece_vocab(const covi_sentencepiece *p) {
  return p->processor.GetPieceSize();
}

int covi_sentencepiece_eos(const covi_sentencepiece *p) {
  return p->processor.eos_id();
}

int covi_sentencepiece_encode(const covi_sentencepiece *p, const char *text, size_t bytes, uint32_t **ids, size_t *n,
                              char *error, size_t error_bytes) {
  return guarded(error, error_bytes, [&] {
    std::vector<int> found;
    sentencepiece::util::Status status = p->processor.Encode(absl::string_view(text, bytes), &found);
    if (!status.ok()) return status;
    uint32_t *copy = static_cast<uint32_t *>(std::malloc((found.size() + 1) * sizeof *copy));
    if (!copy) throw std::bad_alloc();
    for (size_t i = 0; i < found.size(); i++) copy[i] = static_cast<uint32_t>(found[i]);
    *ids = copy;
    *n = found.size();
    return status;
  });
}

int covi_sentencepiece_decode(const covi_sentencepiece *p, const uint32_t *ids, size_t n, char **text, size_t *bytes,
                              char *error, size_t error_bytes) {
  return guarded(error, error_bytes, [&] {
    std::vector<int> wanted(ids, ids + n);
    std::string found;
    sentencepiece::util::Status status = p->processor.Decode(wanted, &found);
    if (!status.ok()) return status;
    *text = copied(found);
    *bytes = found.size();
    return status;
  });
}

int covi_sentencepiece_train(const char *const *settings, int n, covi_sentencepiece_lines lines, void *context,
                             void **model, size_t *bytes, char *error, size_t error_bytes) {
  return guarded(error, error_bytes, [&] {
    /* As a map: the form that takes a command line writes it to stderr. */
    std::unordered_map<std::string, std::string> arguments;
    for (int i = 0; i < n; i++) arguments[settings[2 * i]] = settings[2 * i + 1];
    Lines iterator(lines, context);
    std::string trained;
    sentencepiece::util::Status status = sentencepiece::SentencePieceTrainer::Train(arguments, &iterator, &trained);
    if (!status.ok()) return status;
    *model = copied(trained);
    *bytes = trained.size();
    return status;
  });
}

} // extern "C"
