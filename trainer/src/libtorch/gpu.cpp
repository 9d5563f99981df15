// What tch does not show of libtorch on a GPU. Only libtorch's device-independent interfaces are used, so that this compiles and links
// without CUDA.

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <memory>
#include <optional>

#include "guarded.h"

using at::Tensor;
using c10::impl::VirtualGuardImpl;
using sortie::guarded;

namespace {

// A number on its way from a device to the host.
struct PendingValue {
  Tensor host;
  // When it has arrived; none where it was there at once.
  std::optional<c10::Event> arrival;
};

// What `guarded` returns where there is nothing to return.
void* done() {
  static char something;
  return &something;
}

}  // namespace

extern "C" {

void* sortie_deterministic(char* error, size_t length) {
  return guarded(error, length, [&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(true, /*warn_only=*/false);
    // Only useful to find reads of what was never written, at the price of writing everything twice.
    context.setDeterministicFillUninitializedMemory(false);
    // Choosing by a measurement may choose otherwise next time.
    context.setBenchmarkCuDNN(false);
    return done();
  });
}

void* sortie_own_stream(int64_t index, char* error, size_t length) {
  return guarded(error, length, [&] {
    const VirtualGuardImpl gpu(c10::DeviceType::CUDA);
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    gpu.exchangeStream(gpu.getStreamFromGlobalPool(device, /*isHighPriority=*/true));
    return done();
  });
}

void* sortie_finish_stream(int64_t index, char* error, size_t length) {
  return guarded(error, length, [&] {
    const VirtualGuardImpl gpu(c10::DeviceType::CUDA);
    gpu.synchronizeStream(gpu.getStream({c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)}));
    return done();
  });
}

// The most that the allocator has held, what it holds now, and what is free of the device and all of it; in bytes.
void* sortie_gpu_memory(int64_t index, uint64_t* bytes, char* error, size_t length) {
  return guarded(error, length, [&] {
    const auto device = static_cast<c10::DeviceIndex>(index);
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    const auto stats = allocator->getDeviceStats(device);
    const auto& held = stats.reserved_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    const auto [free, total] = allocator->getMemoryInfo(device);
    bytes[0] = static_cast<uint64_t>(held.peak);
    bytes[1] = static_cast<uint64_t>(held.current);
    bytes[2] = free;
    bytes[3] = total;
    return done();
  });
}

void* sortie_receive(const Tensor* x, char* error, size_t length) {
  return guarded(error, length, [&] {
    x->record_stream(VirtualGuardImpl(x->device().type()).getStream(x->device()));
    return done();
  });
}

void* sortie_read(const Tensor* x, char* error, size_t length) {
  return guarded(error, length, [&] {
    TORCH_CHECK(x->numel() == 1, "a value to read has one element, not ", x->numel());
    const auto value = x->detach().to(at::kDouble);
    if (x->is_cpu()) return new PendingValue{value.clone(), std::nullopt};
    auto host = at::empty({}, value.options().device(at::kCPU).pinned_memory(true));
    host.copy_(value, /*non_blocking=*/true);
    c10::Event arrival(x->device().type());
    arrival.record(VirtualGuardImpl(x->device().type()).getStream(x->device()));
    return new PendingValue{host, std::move(arrival)};
  });
}

// Deletes the pending value in any case.
void* sortie_value(PendingValue* pending, double* value, char* error, size_t length) {
  const std::unique_ptr<PendingValue> owned(pending);
  return guarded(error, length, [&] {
    if (owned->arrival) owned->arrival->synchronize();
    *value = owned->host.item<double>();
    return done();
  });
}

void sortie_drop(PendingValue* pending) { delete pending; }
}
