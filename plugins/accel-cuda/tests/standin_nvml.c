/* A stand-in for libnvidia-ml.so.1: what it says of its cards is read from a file at every call.

   The environment variable NVML_STANDIN names the file; each line is a kind and its fields:

     node driver=550.54 cuda=12040 init=0 abort_in=FUNCTION hang_in=FUNCTION
     gpu  uuid=GPU-1 name=NVIDIA_H100 minor=0 bus=59 total=BYTES used= util= power= limit= temp= mig=0|1
          retired= pending= failed= ecc= error=CODE error_in=FUNCTION
     mig  of=GPU-1 uuid=MIG-1 name=... gi=1 ci=0 mb= used= slices= of_slices=
     proc on=UUID pid= used=

   A field that is not given is "not supported". As with the real library the cards are enumerated when
   it is initialised, handles are good until it is shut down, and a card that was found lost stays lost
   until then. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7,
       NOT_LOADED = 9, LOST = 15 };

typedef struct { char text[600]; } line_t;
typedef struct { char uuid[96]; int lost; } slot_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int sms, ce, dec, enc, jpeg, ofa, gi_slices, ci_slices; unsigned long long mb; } attributes_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } process_t;
typedef struct {
    char legacy[16];
    unsigned int domain, bus, device, id, subsystem;
    char text[32];
} pci_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static line_t lines[256];
static int line_count;
static slot_t slots[64];
static int slot_count, card_count, users, generation;

static void load(void) {
    const char *path = getenv("NVML_STANDIN");
    FILE *file = path ? fopen(path, "r") : NULL;
    line_count = 0;
    if (!file) return;
    while (line_count < 256 && fgets(lines[line_count].text, sizeof lines[0].text, file)) {
        lines[line_count].text[strcspn(lines[line_count].text, "\n")] = 0;
        line_count++;
    }
    fclose(file);
}

static int text(const char *line, const char *key, char *into, size_t size) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %s=", key);
    const char *at = strstr(line, wanted);
    if (!at) return 0;
    at += strlen(wanted);
    size_t length = strcspn(at, " ");
    if (length >= size) length = size - 1;
    memcpy(into, at, length);
    into[length] = 0;
    return 1;
}

static long long number(const char *line, const char *key) {
    char value[64];
    return text(line, key, value, sizeof value) ? atoll(value) : -1;
}

static const char *find(const char *kind, const char *key, const char *value, int nth) {
    char found[96];
    for (int i = 0; i < line_count; i++) {
        if (strncmp(lines[i].text, kind, strlen(kind)) || lines[i].text[strlen(kind)] != ' ') continue;
        if (key && (!text(lines[i].text, key, found, sizeof found) || strcmp(found, value))) continue;
        if (nth-- == 0) return lines[i].text;
    }
    return NULL;
}

static int is_named(const char *line, const char *key, const char *function) {
    char found[96];
    return line && text(line, key, found, sizeof found) && !strcmp(found, function);
}

/* Every call begins here: the file is read, and what it asks for is done. */
static int enter(const char *function) {
    load();
    const char *node = find("node", NULL, NULL, 0);
    if (is_named(node, "abort_in", function)) abort();
    if (is_named(node, "hang_in", function)) {
        pthread_mutex_unlock(&lock);
        for (;;) pause();
    }
    return users ? OK : UNINITIALIZED;
}

static int slot_of(const char *uuid) {
    for (int i = 0; i < slot_count; i++)
        if (!strcmp(slots[i].uuid, uuid)) return i;
    if (slot_count == 64) abort();
    snprintf(slots[slot_count].uuid, sizeof slots[0].uuid, "%s", uuid);
    slots[slot_count].lost = 0;
    return slot_count++;
}

static void *handle_of(int slot) { return (void *)(((long)generation << 8) | (slot + 1)); }

static int condition(const char *function, int slot, const char *gpu) {
    char only[96];
    long long error = gpu ? number(gpu, "error") : LOST;
    if (error > 0 && gpu && text(gpu, "error_in", only, sizeof only) && strcmp(only, function)) error = 0;
    if (error == LOST) slots[slot].lost = 1;
    if (slots[slot].lost) return LOST;
    return error > 0 ? (int)error : OK;
}

/* Find a handle's own line, after asking its card for its condition. */
static int enter_device(const char *function, void *handle, const char **line) {
    int state = enter(function);
    if (state) return state;
    long value = (long)handle;
    int slot = (int)(value & 255) - 1;
    if (value >> 8 != generation || slot < 0 || slot >= slot_count) return INVALID;
    const char *uuid = slots[slot].uuid, *gpu = find("gpu", "uuid", uuid, 0);
    *line = gpu;
    if (strncmp(uuid, "MIG", 3) == 0) {
        char of[96];
        *line = find("mig", "uuid", uuid, 0);
        if (!*line || !text(*line, "of", of, sizeof of)) return NOT_FOUND;
        gpu = find("gpu", "uuid", of, 0);
        slot = slot_of(of);
    }
    return condition(function, slot, gpu);
}

#define LEAVE(state) do { int s_ = (state); pthread_mutex_unlock(&lock); return s_; } while (0)
#define ENTER(function) \
    pthread_mutex_lock(&lock); \
    int state = enter(function); \
    if (state) LEAVE(state)
#define ENTER_DEVICE(function) \
    const char *line = NULL; \
    pthread_mutex_lock(&lock); \
    int state = enter_device(function, device, &line); \
    if (state) LEAVE(state)

static int give(const char *line, const char *key, unsigned int *into) {
    long long value = line ? number(line, key) : -1;
    if (value < 0) return NOT_SUPPORTED;
    *into = (unsigned int)value;
    return OK;
}

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    enter("nvmlInitWithFlags");
    const char *node = find("node", NULL, NULL, 0);
    if (!node) LEAVE(NOT_LOADED);
    if (number(node, "init") > 0) LEAVE((int)number(node, "init"));
    if (!users++) {
        const char *gpu;
        char uuid[96];
        generation++;
        slot_count = card_count = 0;
        while ((gpu = find("gpu", NULL, NULL, card_count))) {
            text(gpu, "uuid", uuid, sizeof uuid);
            slot_of(uuid);
            card_count++;
        }
    }
    LEAVE(OK);
}

int nvmlShutdown(void) { ENTER("nvmlShutdown"); users--; LEAVE(OK); }

const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "Unknown Error"; }

int nvmlSystemGetDriverVersion(char *into, unsigned int size) {
    ENTER("nvmlSystemGetDriverVersion");
    LEAVE(text(find("node", NULL, NULL, 0), "driver", into, size) ? OK : NOT_SUPPORTED);
}

int nvmlSystemGetCudaDriverVersion(int *into) {
    ENTER("nvmlSystemGetCudaDriverVersion");
    LEAVE(give(find("node", NULL, NULL, 0), "cuda", (unsigned int *)into));
}

int nvmlDeviceGetCount_v2(unsigned int *into) {
    ENTER("nvmlDeviceGetCount_v2");
    *into = card_count;
    LEAVE(OK);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **into) {
    ENTER("nvmlDeviceGetHandleByIndex_v2");
    if ((int)index >= card_count) LEAVE(INVALID);
    state = condition("nvmlDeviceGetHandleByIndex_v2", index, find("gpu", "uuid", slots[index].uuid, 0));
    *into = handle_of(index);
    LEAVE(state);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **into) {
    ENTER("nvmlDeviceGetHandleByUUID");
    for (int i = 0; i < card_count; i++)
        if (!strcmp(slots[i].uuid, uuid)) {
            *into = handle_of(i);
            LEAVE(condition("nvmlDeviceGetHandleByUUID", i, find("gpu", "uuid", uuid, 0)));
        }
    if (!find("mig", "uuid", uuid, 0)) LEAVE(NOT_FOUND);
    *into = handle_of(slot_of(uuid));
    LEAVE(OK);
}

int nvmlDeviceGetUUID(void *device, char *into, unsigned int size) {
    ENTER_DEVICE("nvmlDeviceGetUUID");
    LEAVE(text(line, "uuid", into, size) ? OK : NOT_SUPPORTED);
}

int nvmlDeviceGetName(void *device, char *into, unsigned int size) {
    ENTER_DEVICE("nvmlDeviceGetName");
    if (!text(line, "name", into, size)) LEAVE(NOT_SUPPORTED);
    for (char *c = into; *c; c++)
        if (*c == '_') *c = ' ';
    LEAVE(OK);
}

int nvmlDeviceGetMinorNumber(void *device, unsigned int *into) {
    ENTER_DEVICE("nvmlDeviceGetMinorNumber");
    LEAVE(give(line, "minor", into));
}

int nvmlDeviceGetPciInfo_v3(void *device, pci_t *into) {
    ENTER_DEVICE("nvmlDeviceGetPciInfo_v3");
    memset(into, 0, sizeof *into);
    give(line, "domain", &into->domain);
    LEAVE(give(line, "bus", &into->bus));
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *into) {
    ENTER_DEVICE("nvmlDeviceGetMemoryInfo");
    long long total = number(line, "total"), used = number(line, "used");
    if (total < 0 && number(line, "mb") >= 0) total = number(line, "mb") << 20;
    if (total < 0 || used < 0) LEAVE(NOT_SUPPORTED);
    *into = (memory_t){total, total - used, used};
    LEAVE(OK);
}

int nvmlDeviceGetUtilizationRates(void *device, utilization_t *into) {
    ENTER_DEVICE("nvmlDeviceGetUtilizationRates");
    into->memory = 0;
    LEAVE(give(line, "util", &into->gpu));
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *into) {
    ENTER_DEVICE("nvmlDeviceGetPowerUsage");
    LEAVE(give(line, "power", into));
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *into) {
    ENTER_DEVICE("nvmlDeviceGetEnforcedPowerLimit");
    LEAVE(give(line, "limit", into));
}

int nvmlDeviceGetTemperature(void *device, unsigned int sensor, unsigned int *into) {
    (void)sensor;
    ENTER_DEVICE("nvmlDeviceGetTemperature");
    LEAVE(give(line, "temp", into));
}

int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    ENTER_DEVICE("nvmlDeviceGetMigMode");
    state = give(line, "mig", current);
    *pending = *current;
    LEAVE(state);
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *into) {
    ENTER_DEVICE("nvmlDeviceGetMaxMigDeviceCount");
    *into = 7;
    LEAVE(OK);
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **into) {
    ENTER_DEVICE("nvmlDeviceGetMigDeviceHandleByIndex");
    char uuid[96];
    text(line, "uuid", uuid, sizeof uuid);
    const char *mig = find("mig", "of", uuid, index);
    if (!mig) LEAVE(NOT_FOUND);
    text(mig, "uuid", uuid, sizeof uuid);
    *into = handle_of(slot_of(uuid));
    LEAVE(OK);
}

int nvmlDeviceGetAttributes_v2(void *device, attributes_t *into) {
    ENTER_DEVICE("nvmlDeviceGetAttributes_v2");
    memset(into, 0, sizeof *into);
    into->mb = number(line, "mb");
    give(line, "slices", &into->ci_slices);
    if (give(line, "of_slices", &into->gi_slices)) into->gi_slices = into->ci_slices;
    LEAVE(number(line, "mb") < 0 ? NOT_SUPPORTED : OK);
}

int nvmlDeviceGetGpuInstanceId(void *device, unsigned int *into) {
    ENTER_DEVICE("nvmlDeviceGetGpuInstanceId");
    LEAVE(give(line, "gi", into));
}

int nvmlDeviceGetComputeInstanceId(void *device, unsigned int *into) {
    ENTER_DEVICE("nvmlDeviceGetComputeInstanceId");
    LEAVE(give(line, "ci", into));
}

int nvmlDeviceGetRetiredPagesPendingStatus(void *device, unsigned int *into) {
    ENTER_DEVICE("nvmlDeviceGetRetiredPagesPendingStatus");
    LEAVE(give(line, "retired", into));
}

int nvmlDeviceGetRemappedRows(void *device, unsigned int *corr, unsigned int *unc, unsigned int *pending,
                              unsigned int *failed) {
    ENTER_DEVICE("nvmlDeviceGetRemappedRows");
    *corr = *unc = *failed = 0;
    give(line, "failed", failed);
    LEAVE(give(line, "pending", pending));
}

int nvmlDeviceGetTotalEccErrors(void *device, unsigned int type, unsigned int counter, unsigned long long *into) {
    (void)type, (void)counter;
    ENTER_DEVICE("nvmlDeviceGetTotalEccErrors");
    if (number(line, "ecc") < 0) LEAVE(NOT_SUPPORTED);
    *into = number(line, "ecc");
    LEAVE(OK);
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, process_t *into) {
    ENTER_DEVICE("nvmlDeviceGetComputeRunningProcesses_v3");
    char uuid[96];
    const char *process;
    unsigned int found = 0, room = *count;
    text(line, "uuid", uuid, sizeof uuid);
    while ((process = find("proc", "on", uuid, found))) {
        if (found < room && into)
            into[found] = (process_t){(unsigned int)number(process, "pid"),
                                      (unsigned long long)number(process, "used"), ~0u, ~0u};
        found++;
    }
    *count = found;
    LEAVE(found > room ? TOO_SMALL : OK);
}
