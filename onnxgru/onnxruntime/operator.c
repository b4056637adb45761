/* Operators of onnxruntime that call functions of this process.

   Python describes the operators, one a local function of a graph, and the directions that each
   computes. Then onnxruntime calls RegisterCustomOps. Functions of onnxruntime are found by their
   number in its table, which never changes. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void Status;
typedef void (*Function)(void);

enum {
    CREATE_STATUS = 0,
    CREATE_DOMAIN = 26,
    ADD_OPERATOR = 27,
    ADD_DOMAIN = 28,
    DATA = 51,
    DIMENSION_COUNT = 61,
    DIMENSIONS = 62,
    SHAPE = 65,
    STRING_ATTRIBUTE = 87,
    INPUT = 90,
    OUTPUT = 91,
    RELEASE_SHAPE = 99
};

enum { VERSION = 16, MOST = 16, NAME = 256, FAILED = 1 };

typedef struct {
    const Function *(*api)(uint32_t version);
    const char *(*version)(void);
} Base;

/* The states hold those before the first step, and then those after the last one. */
typedef void (*Run)(const int64_t *context, int64_t steps, int64_t batch, int64_t inputs,
                    const void *x, const void *mask, void *sequence, void *const *states);

typedef struct Direction {
    struct Direction *next;
    Run run;
    const int64_t *context;
    int64_t columns;      /* of the input */
    int64_t widths[MOST]; /* of the sequence and of the states */
    char name[NAME];
} Direction;

/* As onnxruntime reads it, and behind that what belongs to us. */
typedef struct Operator {
    uint32_t version;
    void *(*create_old)(const struct Operator *, const Function *, const void *);
    const char *(*get_name)(const struct Operator *);
    const char *(*provider)(const struct Operator *);
    int (*input_type)(const struct Operator *, size_t);
    size_t (*input_count)(const struct Operator *);
    int (*output_type)(const struct Operator *, size_t);
    size_t (*output_count)(const struct Operator *);
    void (*compute_old)(void *, void *);
    void (*destroy)(void *);
    int (*input_kind)(const struct Operator *, size_t);
    int (*output_kind)(const struct Operator *, size_t);
    int (*input_memory)(const struct Operator *, size_t);
    int (*least_inputs)(const struct Operator *);
    int (*inputs_alike)(const struct Operator *);
    int (*least_outputs)(const struct Operator *);
    int (*outputs_alike)(const struct Operator *);
    Status *(*create)(const struct Operator *, const Function *, const void *, void **);
    Status *(*compute)(void *, void *);

    struct Operator *next;
    Direction *directions;
    size_t inputs, outputs, masked;
    int types[MOST];       /* of the input, the mask and the first states: all that is not stored */
    int output_types[MOST];
    char name[NAME];
} Operator;

typedef struct {
    const Function *api;
    const Operator *described;
    const Direction *direction;
} Kernel;

static Operator *pending;

static Status *failed(const Function *api, const char *why)
{
    return ((Status *(*)(int, const char *))api[CREATE_STATUS])(FAILED, why);
}

static const char *get_name(const Operator *one) { return one->name; }
static const char *provider(const Operator *one) { (void)one; return NULL; }
static size_t input_count(const Operator *one) { return one->inputs; }
static size_t output_count(const Operator *one) { return one->outputs; }
static int output_type(const Operator *one, size_t place) { return one->output_types[place]; }
static int zero(const Operator *one, size_t place) { (void)one; (void)place; return 0; }
static int nothing(const Operator *one) { (void)one; return 1; }

static int input_type(const Operator *one, size_t place)
{
    return place < one->outputs + one->masked ? one->types[place] : 0; /* any type */
}

static Status *create(const Operator *one, const Function *api, const void *info, void **made)
{
    char name[NAME];
    size_t size = sizeof name;
    const Direction *direction;
    Kernel *kernel;
    Status *status = ((Status *(*)(const void *, const char *, char *, size_t *))
                      api[STRING_ATTRIBUTE])(info, "recurrence", name, &size);
    if (status)
        return status;
    for (direction = one->directions; direction; direction = direction->next)
        if (!strcmp(direction->name, name))
            break;
    if (!direction)
        return failed(api, "onnxgru: the folder that was registered has no such recurrence");
    kernel = malloc(sizeof *kernel);
    if (!kernel)
        return failed(api, "onnxgru: no memory is left");
    kernel->api = api;
    kernel->described = one;
    kernel->direction = direction;
    *made = kernel;
    return NULL;
}

static void destroy(void *kernel) { free(kernel); }

/* A tensor that must have these sizes; -1 stands for any, and is overwritten. */
static Status *read(const Function *api, void *context, size_t place, const void **data,
                    int64_t *sizes, size_t axes)
{
    const void *value, *shape;
    int64_t found[3];
    size_t axis, count = 0;
    int fits;
    Status *status =
        ((Status *(*)(const void *, size_t, const void **))api[INPUT])(context, place, &value);
    if (!status)
        status = ((Status *(*)(const void *, const void **))api[DATA])(value, data);
    if (!status)
        status = ((Status *(*)(const void *, const void **))api[SHAPE])(value, &shape);
    if (status)
        return status;
    status = ((Status *(*)(const void *, size_t *))api[DIMENSION_COUNT])(shape, &count);
    fits = count == axes;
    if (!status && fits)
        status = ((Status *(*)(const void *, int64_t *, size_t))api[DIMENSIONS])(shape, found, axes);
    ((void (*)(const void *))api[RELEASE_SHAPE])(shape);
    for (axis = 0; !status && fits && axis < axes; ++axis) {
        if (sizes[axis] < 0)
            sizes[axis] = found[axis];
        fits = sizes[axis] == found[axis];
    }
    if (!status && !fits)
        status = failed(api, "onnxgru: sequences, masks and states must have one batch size, and "
                             "the columns of the layer");
    return status;
}

static Status *written(const Function *api, void *context, size_t place, const int64_t *sizes,
                       size_t count, void **data)
{
    void *value;
    Status *status = ((Status *(*)(void *, size_t, const int64_t *, size_t, void **))
                      api[OUTPUT])(context, place, sizes, count, &value);
    return status ? status : ((Status *(*)(void *, void **))api[DATA])(value, data);
}

static Status *compute(void *pointer, void *context)
{
    const Kernel *kernel = pointer;
    const Function *api = kernel->api;
    const Operator *one = kernel->described;
    const int64_t *widths = kernel->direction->widths;
    const void *x, *mask = NULL, *first;
    void *sequence, *last[MOST];
    int64_t sizes[3] = {-1, -1, kernel->direction->columns}, shape[3];
    size_t place, bytes;
    Status *status = read(api, context, 0, &x, sizes, 3);
    if (!status && one->masked) {
        shape[0] = sizes[0], shape[1] = sizes[1], shape[2] = 1;
        status = read(api, context, 1, &mask, shape, 3);
    }
    if (status)
        return status;
    shape[0] = sizes[0], shape[1] = sizes[1], shape[2] = widths[0];
    status = written(api, context, 0, shape, 3, &sequence);
    for (place = 1; !status && place < one->outputs; ++place) {
        shape[0] = sizes[1], shape[1] = widths[place];
        status = read(api, context, one->masked + place, &first, shape, 2);
        if (!status)
            status = written(api, context, place, shape, 2, &last[place - 1]);
        if (!status) {
            bytes = one->output_types[place] == 2 ? 1 : 2;
            memcpy(last[place - 1], first, (size_t)(shape[0] * shape[1]) * bytes);
        }
    }
    if (status)
        return status;
    kernel->direction->run(kernel->direction->context, sizes[0], sizes[1], sizes[2], x, mask,
                           sequence, last);
    return NULL;
}

/* Forgets operators that were described and not registered. */
void onnxgru_forget(void) { pending = NULL; }

/* Describes an operator; the next call of RegisterCustomOps registers it. */
void *onnxgru_operator(const char *name, size_t inputs, size_t masked, size_t outputs,
                       const int *types, const int *output_types)
{
    Operator *one = calloc(1, sizeof *one);
    if (!one || strlen(name) >= NAME || outputs >= MOST) {
        free(one);
        return NULL;
    }
    strcpy(one->name, name);
    one->version = VERSION;
    one->get_name = get_name;
    one->provider = provider;
    one->input_type = input_type;
    one->input_count = input_count;
    one->output_type = output_type;
    one->output_count = output_count;
    one->destroy = destroy;
    one->input_kind = one->output_kind = one->input_memory = zero;
    one->least_inputs = one->inputs_alike = one->least_outputs = one->outputs_alike = nothing;
    one->create = create;
    one->compute = compute;
    one->inputs = inputs, one->masked = masked, one->outputs = outputs;
    memcpy(one->types, types, (outputs + masked) * sizeof *types);
    memcpy(one->output_types, output_types, outputs * sizeof *types);
    one->next = pending;
    pending = one;
    return one;
}

/* Adds a direction that an operator computes; returns 0 where it has no place for it. */
int onnxgru_direction(Operator *one, const char *name, int64_t columns, const int64_t *widths,
                      Run run, const int64_t *context)
{
    Direction *direction = calloc(1, sizeof *direction);
    if (!direction || strlen(name) >= NAME) {
        free(direction);
        return 0;
    }
    strcpy(direction->name, name);
    memcpy(direction->widths, widths, one->outputs * sizeof *widths);
    direction->columns = columns;
    direction->run = run;
    direction->context = context;
    direction->next = one->directions;
    one->directions = direction;
    return 1;
}

/* onnxruntime looks for this name. What is described lives as long as the process. */
Status *RegisterCustomOps(void *options, const Base *base)
{
    const Function *api = base->api(VERSION);
    void *domain;
    Status *status;
    if (!api)
        return failed(base->api(1), "it must be version 1.16 or newer");
    status = ((Status *(*)(const char *, void **))api[CREATE_DOMAIN])("onnxgru", &domain);
    for (; !status && pending; pending = pending->next)
        status = ((Status *(*)(void *, const void *))api[ADD_OPERATOR])(domain, pending);
    if (!status)
        status = ((Status *(*)(void *, void *))api[ADD_DOMAIN])(options, domain);
    return status;
}
