// GPT-2's forward pass on a CPU (Radford et al. 2019): one call a step, all layers, all rows of all sequences.
//
// All threads run the same function over the layers and meet at a barrier after each phase; inside a phase they take
// pieces of its work from a counter, so that a thread which was held up delays the others by one piece at most.
// library.py declares the functions at the end, and says what their arguments are.

#include "attention.h"
#include "linear.h"
#include "pool.h"
#include "sampling.h"
#if defined(__AMX_BF16__)
#include "attention_tiles.h"
#endif

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace sluicegate {
namespace {

constexpr size_t BLOCK_BYTES = 1200 << 10;  // of a block of rows: more than half of the 2 MiB that cores have of L2
constexpr size_t ROW_MULTIPLE = 96;         // of a block: whole rounds of linear.h, by whatever instructions
constexpr size_t HEADS_OF_A_TASK = 4, TASKS_A_THREAD = 4;  // where there are fewer, each head is a task

#if defined(__AMX_BF16__)
typedef TileAttention Bfloat16Attention;
#else
typedef VectorAttention<Bf16> Bfloat16Attention;
#endif
typedef VectorAttention<float> Float32Attention;

}  // namespace

// What library.py fills in. All numbers of a model but the packed weights and the cache are float32.
extern "C" {

struct SgLinear {
    const void* weights;  // packed
    const float* bias;
};

struct SgLayer {
    const float *attention_norm_weight, *attention_norm_bias;
    SgLinear attention_in, attention_out;
    const float *mlp_norm_weight, *mlp_norm_bias;
    SgLinear mlp_in, mlp_out;
};

struct SgModel {
    int64_t is_bfloat16, layers, heads, width, inner_width, context_length, vocabulary_size;
    float epsilon;
    const void* token_embedding;      // packed
    const float* position_embedding;  // [context_length, width]
    const void* head;                 // packed
    const float *final_norm_weight, *final_norm_bias;
    const SgLayer* blocks;
};

// Rows first..last of a step stand at positions start.. of a slot.
struct SgSpan {
    int64_t first, last, slot, start;
};
}

namespace {

// Memory that is kept from step to step and grows with the largest.
template <typename T>
class Buffer {
public:
    T* get(size_t count) {
        if (count > room_) {
            memory_.reset();
            const size_t bytes = (count * sizeof(T) + 4095) / 4096 * 4096;
            memory_.reset(static_cast<T*>(std::aligned_alloc(4096, bytes)));
            if (!memory_) {
                room_ = 0;
                throw std::bad_alloc();
            }
            std::memset(static_cast<void*>(memory_.get()), 0, bytes);
            room_ = count;
        }
        return memory_.get();
    }

private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::unique_ptr<T, Free> memory_;
    size_t room_ = 0;
};

// Positions of a slot in the cache: whole blocks of what is read at once.
size_t capacity(size_t context_length) { return (context_length + 63) / 64 * 64; }

// Mean and variance over a row, then scale and shift (Ba et al. 2016); numbers i.. go to `output(i)`.
template <typename Output>
void normalise(const float* row, size_t width, float epsilon, const float* weight, const float* bias,
               const Output& output) {
    Floats total = {};
    for (size_t i = 0; i < width; i += LANES) total += load(row + i);
    const Floats mean = all(sum(total) / static_cast<float>(width));
    Floats squares = {};
    for (size_t i = 0; i < width; i += LANES) {
        const Floats apart = load(row + i) - mean;
        squares += apart * apart;
    }
    const Floats scale = all(1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + epsilon));
    for (size_t i = 0; i < width; i += LANES)
        store(output(i), (load(row + i) - mean) * scale * load(weight + i) + load(bias + i));
}

// Attention of `count` rows of a span, from its row `query` on.
struct Task {
    size_t span, query, count;
};

// One step. `Format` says how weights lie and are multiplied, `Attention` the same of the cache.
template <typename Format, typename Attention>
class Step {
public:
    typedef typename Format::Weight Weight;
    typedef typename Format::Operand Operand;
    typedef typename Attention::Query Query;

    void run(Pool& pool, const SgModel& model, const int64_t* ids, const int64_t* positions, size_t rows,
             const SgSpan* spans, size_t span_count, Weight* cache, size_t slots, float* hidden) {
        model_ = &model;
        ids_ = ids, positions_ = positions, rows_ = rows, spans_ = spans, cache_ = cache, slots_ = slots,
        hidden_ = hidden, threads_ = pool.threads;
        residual_ = residuals_.get(rows * model.width);
        queries_ = query_rows_.get(rows * model.width);
        operands_ = rows_of(operand_rows_, rows, model.width);
        inner_ = rows_of(inner_rows_, rows, model.inner_width);
        capacity_ = capacity(model.context_length);
        room_ = Attention::room(capacity_);
        scores_ = score_rows_.get(pool.threads * room_);
        slot_of_row_.resize(rows);
        find_destinations(model);
        tasks_.clear();
        for (size_t span = 0; span < span_count; span++) {
            const size_t count = spans[span].last - spans[span].first;
            for (size_t query = 0; query < count; query += Attention::QUERIES)
                tasks_.push_back({span, query, std::min<size_t>(Attention::QUERIES, count - query)});
            for (int64_t row = spans[span].first; row < spans[span].last; row++) slot_of_row_[row] = spans[span].slot;
        }
        if (counters_.size() < PHASES * model.layers + 2) counters_ = std::vector<Counter>(PHASES * model.layers + 2);
        for (Counter& counter : counters_) counter.next.store(0, std::memory_order_relaxed);
        pool.run([&](int thread) { forward(pool, thread); });
    }

private:
    static constexpr size_t PHASES = 7;

    void forward(Pool& pool, int thread) {
        const SgModel& model = *model_;
        Counter* counter = counters_.data();
        const size_t width = model.width;
        configure_tiles();
        share(counter++, rows_, 1, [&](size_t row) { embed(row); });
        for (int64_t layer = 0; layer < model.layers; layer++) {
            const SgLayer& block = model.blocks[layer];
            pool.barrier.wait();
            share(counter++, rows_, 1, [&](size_t row) {
                normalise(residual_ + row * width, width, model.epsilon, block.attention_norm_weight,
                          block.attention_norm_bias, [&](size_t i) { return operands_.of(row, i); });
            });
            pool.barrier.wait();
            linear(
                counter++, block.attention_in, operands_, 3 * width,
                [&](size_t row, size_t column) { fetch_projection(layer, row, column); },
                [&](size_t row, size_t column, Floats sums) { take_projection(layer, row, column, sums); });
            pool.barrier.wait();
            const size_t heads = tasks_.size() < TASKS_A_THREAD * pool.threads ? 1 : HEADS_OF_A_TASK;
            const size_t groups = (model.heads + heads - 1) / heads;
            share(counter++, tasks_.size() * groups, 1, [&](size_t task) {
                const size_t head = task % groups * heads;
                attend_heads(thread, layer, tasks_[task / groups], head, std::min<size_t>(head + heads, model.heads));
            });
            pool.barrier.wait();
            configure_tiles();
            linear(
                counter++, block.attention_out, operands_, width,
                [&](size_t row, size_t column) { fetch(residual_ + row * width + column); },
                [&](size_t row, size_t column, Floats sums) { add(row, column, sums); });
            pool.barrier.wait();
            share(counter++, rows_, 1, [&](size_t row) {
                normalise(residual_ + row * width, width, model.epsilon, block.mlp_norm_weight, block.mlp_norm_bias,
                          [&](size_t i) { return operands_.of(row, i); });
            });
            pool.barrier.wait();
            linear(
                counter++, block.mlp_in, operands_, model.inner_width,
                [&](size_t row, size_t column) { fetch(inner_.of(row, column)); },
                [&](size_t row, size_t column, Floats sums) {
                    store(inner_.of(row, column), gelu(sums));
                });
            pool.barrier.wait();
            linear(
                counter++, block.mlp_out, inner_, width,
                [&](size_t row, size_t column) { fetch(residual_ + row * width + column); },
                [&](size_t row, size_t column, Floats sums) { add(row, column, sums); });
        }
        pool.barrier.wait();
        share(counter++, rows_, 1, [&](size_t row) {
            normalise(residual_ + row * width, width, model.epsilon, model.final_norm_weight, model.final_norm_bias,
                      [&](size_t i) { return hidden_ + row * width + i; });
        });
        release_tiles();
    }

    template <typename Work>
    static void share(Counter* counter, size_t count, size_t grain, const Work& work) {
        for (;;) {
            const size_t first = counter->next.fetch_add(static_cast<int>(grain), std::memory_order_relaxed);
            if (first >= count) return;
            for (size_t i = first; i < std::min(count, first + grain); i++) work(i);
        }
    }

    // Rows go in blocks that a core's cache keeps while all panels of weights pass by.
    template <typename Ahead, typename Finish>
    void linear(Counter* counter, const SgLinear& linear, const Rows<Operand>& operands, size_t columns,
                const Ahead& ahead, const Finish& finish) {
        const Weight* weights = static_cast<const Weight*>(linear.weights);
        const size_t k = operands.k;
        const size_t block = std::max<size_t>(BLOCK_BYTES / (k * sizeof(Operand)) / ROW_MULTIPLE, 1) * ROW_MULTIPLE;
        const size_t blocks = (rows_ + block - 1) / block;
        share(counter, panels(columns) * blocks, 1, [&](size_t piece) {
            const size_t first = piece / panels(columns) * block, panel = piece % panels(columns);
            const Weight* from = weights + panel * PANEL * k;
            panel_product(from, from + threads_ * PANEL * k, operands, first, std::min(first + block, rows_),
                          panel * PANEL, ahead, [&](size_t row, size_t column, Floats sums) {
                              if (column < columns) finish(row, column, sums + load(linear.bias + column));
                          });
        });
    }

    static Rows<Operand> rows_of(Buffer<Operand>& buffer, size_t rows, size_t k) {
        return {buffer.get(Rows<Operand>::size(rows, k)), k};
    }

    // What a panel's sums of a row go to, from `to` on, comes into this core's cache before they are there: the other
    // cores have written it last.
    template <typename Number>
    static void fetch(Number* to) {
        for (size_t line = 0; line < PANEL; line += 64 / sizeof(Number)) __builtin_prefetch(to + line, 1);
    }

    void embed(size_t row) {
        const size_t width = model_->width;
        const Weight* embedding = static_cast<const Weight*>(model_->token_embedding);
        const float* position = model_->position_embedding + positions_[row] * width;
        float* output = residual_ + row * width;
        for (size_t i = 0; i < width; i++)
            output[i] = to_float(embedding[packed_index<Format>(ids_[row], i, width)]) + position[i];
    }

    Weight* entries(size_t part, size_t layer, size_t slot, size_t head) const {
        const size_t width = model_->width / model_->heads;
        return cache_ +
               ((((part * model_->layers + layer) * slots_ + slot) * model_->heads + head) * capacity_) * width;
    }

    // Where columns column.. of the attention's input projection go: queries, keys or values, a head, numbers i.. of
    // it.
    struct Destination {
        size_t part, head, i;
    };

    void find_destinations(const SgModel& model) {
        const size_t width = model.width, head_width = width / model.heads;
        destinations_.resize(3 * width / LANES);
        for (size_t column = 0; column < 3 * width; column += LANES)
            destinations_[column / LANES] = {column / width, column % width / head_width, column % head_width};
    }

    void fetch_projection(size_t layer, size_t row, size_t column) {
        const Destination& to = destinations_[column / LANES];
        const size_t position = positions_[row], head_width = model_->width / model_->heads;
        if (to.part == 0)
            fetch(queries_ + row * model_->width + column);
        else if (to.part == 1)
            Attention::fetch_key(entries(0, layer, slot_of_row_[row], to.head), position, to.i, head_width);
        else
            Attention::fetch_value(entries(1, layer, slot_of_row_[row], to.head), position, to.i, head_width);
    }

    void take_projection(size_t layer, size_t row, size_t column, Floats sums) {
        const Destination& to = destinations_[column / LANES];
        const size_t position = positions_[row], head_width = model_->width / model_->heads;
        if (to.part == 0)
            store(queries_ + row * model_->width + column, sums * (1.0f / std::sqrt(static_cast<float>(head_width))));
        else if (to.part == 1)
            Attention::store_key(entries(0, layer, slot_of_row_[row], to.head), position, to.i, head_width, sums);
        else
            Attention::store_value(entries(1, layer, slot_of_row_[row], to.head), position, to.i, head_width, sums);
    }

    void attend_heads(int thread, size_t layer, const Task& task, size_t head, size_t end) {
        const SgSpan& span = spans_[task.span];
        const size_t width = model_->width, head_width = width / model_->heads;
        const size_t row = span.first + task.query, first = span.start + task.query;
        float output[Attention::QUERIES * MAX_HEAD_WIDTH];
        for (; head < end; head++) {
            const Weight* keys = entries(0, layer, span.slot, head);
            const Weight* values = entries(1, layer, span.slot, head);
            const Query* queries = queries_ + row * width + head * head_width;
            Attention::attend(keys, values, head + 1 < end, first, task.count, queries, width, head_width,
                              scores_ + thread * room_, capacity_, output);
            for (size_t query = 0; query < task.count; query++)
                for (size_t i = 0; i < head_width; i += LANES)
                    store(operands_.of(row + query, head * head_width + i), load(output + query * head_width + i));
        }
    }

    void add(size_t row, size_t column, Floats sums) {
        float* to = residual_ + row * model_->width + column;
        store(to, load(to) + sums);
    }

public:
    static constexpr size_t MAX_HEAD_WIDTH = 256;

    // Draw a token for each final hidden row. Results as sg_draw says.
    void draw(Pool& pool, const SgModel& model, const float* hidden, size_t rows, const SgDraw* draws,
              const SgAdjustment* adjustments, size_t room, SgDrawn* drawn, int64_t* top_ids, float* top_logprobs) {
        const size_t size = model.vocabulary_size, blocks = (size + BLOCK - 1) / BLOCK;
        float* logits = logit_rows_.get(rows * blocks * BLOCK);
        facts_.resize(rows * blocks);
        samplers_.resize(pool.threads);
        for (Sampler& sampler : samplers_) sampler.reserve(size);
        Counter rounded, judged, done;
        prepare_head(pool, model, rows);
        pool.run([&](int thread) {
            configure_tiles();
            share(&rounded, rows, 1, [&](size_t row) { round_row(model, hidden, row); });
            pool.barrier.wait();
            share(&judged, blocks, 1, [&](size_t block) {
                const size_t first = block * BLOCK, end = first + BLOCK;
                for (size_t column = first; column < end; column += PANEL)
                    logits_of_panel(model, rows, column, BLOCK / PANEL, logits, blocks * BLOCK);
                for (size_t row = 0; row < rows; row++) {
                    float* own = logits + row * blocks * BLOCK;
                    std::fill(own + std::min(std::max(size, first), end), own + end, -INFINITY);
                    adjust(own, draws[row], adjustments, first, end);
                    facts_[row * blocks + block] = judge(own + first, draws[row]);
                }
            });
            pool.barrier.wait();
            share(&done, rows, 1, [&](size_t row) {
                drawn[row] = samplers_[thread].draw(logits + row * blocks * BLOCK, &facts_[row * blocks], size,
                                                    draws[row], top_ids + row * room, top_logprobs + row * room);
            });
            release_tiles();
        });
    }

    // float32 [rows, vocabulary] of final hidden rows.
    void logits(Pool& pool, const SgModel& model, const float* hidden, size_t rows, float* output) {
        Counter rounded, done;
        prepare_head(pool, model, rows);
        pool.run([&](int) {
            configure_tiles();
            share(&rounded, rows, 1, [&](size_t row) { round_row(model, hidden, row); });
            pool.barrier.wait();
            constexpr size_t GRAIN = 4;
            share(&done, panels(model.vocabulary_size), GRAIN, [&](size_t panel) {
                logits_of_panel(model, rows, panel * PANEL, GRAIN, output, model.vocabulary_size);
            });
            release_tiles();
        });
    }

private:
    void prepare_head(const Pool& pool, const SgModel& model, size_t rows) {
        threads_ = pool.threads;
        operands_ = rows_of(operand_rows_, rows, model.width);
    }

    void round_row(const SgModel& model, const float* hidden, size_t row) {
        const size_t width = model.width;
        for (size_t i = 0; i < width; i += LANES) store(operands_.of(row, i), load(hidden + row * width + i));
    }

    // Logits of all rows at columns column.. of one panel, as far as there are any; `output`: [rows, pitch]. Threads take
    // `grain` panels at a time.
    void logits_of_panel(const SgModel& model, size_t rows, size_t column, size_t grain, float* output, size_t pitch) {
        const size_t width = model.width, size = model.vocabulary_size;
        if (column >= size) return;
        const Weight* weights = static_cast<const Weight*>(model.head) + column * width;
        const bool is_last = column / PANEL % grain == grain - 1;
        const Weight* next = weights + (is_last ? (threads_ - 1) * grain + 1 : 1) * PANEL * width;
        const auto ahead = [&](size_t row, size_t first) { fetch(output + row * pitch + first); };
        panel_product(weights, next, operands_, 0, rows, column, ahead,
                      [&](size_t row, size_t first, Floats sums) {
                          float* to = output + row * pitch + first;
                          if (first + LANES <= size)
                              store(to, sums);
                          else
                              for (int lane = 0; first + lane < size; lane++) to[lane] = sums[lane];
                      });
    }

    const SgModel* model_ = nullptr;
    const int64_t *ids_ = nullptr, *positions_ = nullptr;
    const SgSpan* spans_ = nullptr;
    size_t rows_ = 0, slots_ = 0, room_ = 0, capacity_ = 0, threads_ = 1;
    Weight* cache_ = nullptr;
    float *hidden_ = nullptr, *residual_ = nullptr, *scores_ = nullptr;
    Query* queries_ = nullptr;
    Rows<Operand> operands_ = {}, inner_ = {};
    Buffer<float> residuals_, score_rows_, logit_rows_;
    std::vector<BlockFacts> facts_;
    std::vector<Sampler> samplers_;
    Buffer<Query> query_rows_;
    Buffer<Operand> operand_rows_, inner_rows_;
    std::vector<int64_t> slot_of_row_;
    std::vector<Task> tasks_;
    std::vector<Destination> destinations_;
    std::vector<Counter> counters_;
};

}  // namespace

struct SgEngine {
    explicit SgEngine(int threads) : pool(threads) {}
    Pool pool;
    Step<Float32, Float32Attention> float32;
    Step<Bfloat16, Bfloat16Attention> bfloat16;
};

}  // namespace sluicegate

using namespace sluicegate;

#define API __attribute__((visibility("default")))

// Linux hands out the state of AMX's tiles on request (Documentation/arch/x86/xstate.rst).
static bool may_use_tiles() {
#if defined(__AMX_BF16__)
    constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return true;
#endif
}

extern "C" {

API SgEngine* sg_open(int threads) {
    if (!may_use_tiles()) return nullptr;
    try {
        return new SgEngine(threads);
    } catch (...) {
        return nullptr;
    }
}

API int sg_forward(SgEngine* engine, const SgModel* model, const int64_t* ids, const int64_t* positions, int64_t rows,
                   const SgSpan* spans, int64_t span_count, void* cache, int64_t slots, float* hidden) {
    try {
        if (model->is_bfloat16)
            engine->bfloat16.run(engine->pool, *model, ids, positions, rows, spans, span_count,
                                 static_cast<Bf16*>(cache), slots, hidden);
        else
            engine->float32.run(engine->pool, *model, ids, positions, rows, spans, span_count,
                                static_cast<float*>(cache), slots, hidden);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

// Draw a token for each of `rows` final hidden rows; `drawn`: [rows]; `top_ids`, `top_logprobs`: [rows, room].
API int sg_draw(SgEngine* engine, const SgModel* model, const float* hidden, int64_t rows, const SgDraw* draws,
                const SgAdjustment* adjustments, int64_t room, SgDrawn* drawn, int64_t* top_ids, float* top_logprobs) {
    try {
        if (model->is_bfloat16)
            engine->bfloat16.draw(engine->pool, *model, hidden, rows, draws, adjustments, room, drawn, top_ids,
                                  top_logprobs);
        else
            engine->float32.draw(engine->pool, *model, hidden, rows, draws, adjustments, room, drawn, top_ids,
                                 top_logprobs);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

API int sg_logits(SgEngine* engine, const SgModel* model, const float* hidden, int64_t rows, float* output) {
    try {
        if (model->is_bfloat16)
            engine->bfloat16.logits(engine->pool, *model, hidden, rows, output);
        else
            engine->float32.logits(engine->pool, *model, hidden, rows, output);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
}
