/* The driver library of two GPUs that do not exist: cc -shared -fPIC -o libnvidia-ml.so.1 fake_nvml.c
 *
 * What it is asked for is declared as in NVML's reference: https://docs.nvidia.com/deploy/nvml-api/
 * FAKE_NVML_INIT=9: the driver is not loaded. FAKE_NVML_REFUSES="memory temperature": what the GPUs do not tell.
 */
#include <stdlib.h>
#include <string.h>

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int gpu, memory; } Utilization;

enum { SUCCESS = 0, NOT_SUPPORTED = 3 };

static char devices[2]; /* a handle is the address of one */

static int answer(const char *question) {
    const char *refused = getenv("FAKE_NVML_REFUSES");
    return refused && strstr(refused, question) ? NOT_SUPPORTED : SUCCESS;
}

int nvmlInitWithFlags(unsigned int flags) {
    const char *result = getenv("FAKE_NVML_INIT");
    return result ? atoi(result) : SUCCESS;
}

const char *nvmlErrorString(int result) { return result == 9 ? "Driver Not Loaded" : "an error"; }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = 2;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    strncpy(name, device == &devices[0] ? "NVIDIA Double 4090" : "NVIDIA Double 3060", length);
    return answer("name");
}

int nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    strncpy(version, "555.42.02", length);
    return answer("driver");
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    memory->total = 24ULL << 30;
    memory->used = 1ULL << 30;
    memory->free = memory->total - memory->used;
    return answer("memory");
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    *major = 8;
    *minor = device == &devices[0] ? 9 : 6;
    return answer("capability");
}

int nvmlDeviceGetUtilizationRates(void *device, Utilization *rates) {
    rates->gpu = 42;
    rates->memory = 17;
    return answer("utilization");
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *degrees) {
    *degrees = 61;
    return answer("temperature");
}
