// A bounded queue between threads that sleep while they have nothing to do: blocks travel 64 at a time, as in any program that
// hands work on and does not want to pay for a lock each time.
#pragma once

#include "bench.hpp"

namespace bench {

class Channel {
 public:
  static constexpr unsigned kParcel = 64, kParcels = 32;
  struct Parcel {
    void* blocks[kParcel];
    unsigned count;
  };

  Channel() {
    pthread_mutex_init(&mutex_, nullptr);
    pthread_cond_init(&not_full_, nullptr);
    pthread_cond_init(&not_empty_, nullptr);
  }

  // An empty parcel is the last one.
  void send(const Parcel& parcel) {
    pthread_mutex_lock(&mutex_);
    while (sent_ - received_ == kParcels) pthread_cond_wait(&not_full_, &mutex_);
    parcels_[sent_++ % kParcels] = parcel;
    pthread_cond_signal(&not_empty_);
    pthread_mutex_unlock(&mutex_);
  }

  Parcel receive() {
    pthread_mutex_lock(&mutex_);
    while (sent_ == received_) pthread_cond_wait(&not_empty_, &mutex_);
    const Parcel parcel = parcels_[received_++ % kParcels];
    pthread_cond_signal(&not_full_);
    pthread_mutex_unlock(&mutex_);
    return parcel;
  }

 private:
  pthread_mutex_t mutex_;
  pthread_cond_t not_full_, not_empty_;
  uint64_t sent_ = 0, received_ = 0;
  Parcel parcels_[kParcels];
};

}  // namespace bench
