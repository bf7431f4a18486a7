// The next token of a row of logits: penalties and biases, temperature, filters, and a race with keyed times.
// adjustments.py, filters.py and draws.py say what each step is, and where it is from; this gives what they give, but
// for rounding.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "vectors.h"

namespace sluicegate {

constexpr size_t BLOCK = 256;  // entries of the vocabulary that are judged together, as in draws.py
constexpr size_t FEW = 64, MORE = 2048;
constexpr float LARGEST_LOGIT = 1e30f;

extern "C" {

// How a row is drawn. `top_k` of the vocabulary's size, `top_p` 1, `min_p` 0 and `typical_p` 1 are off; `logprobs` -1:
// none.
struct SgDraw {
    double top_p, min_p, typical_p;
    uint64_t seed;
    float temperature, repetition_penalty, presence_penalty, frequency_penalty;
    int32_t top_k, logprobs;
    uint32_t candidate, position;
    int32_t is_greedy, is_filtered;
    int64_t first_adjustment, last_adjustment;
};

// A token that a row penalises or favours; a row's own are in the order of their ids.
struct SgAdjustment {
    int64_t id;
    float in_prompt, produced, bias, unused;
};

// A row's token and its log-probability, where asked for. `is_finite` 0: its logits are not, and nothing was drawn.
struct SgDrawn {
    int64_t id;
    float logprob;
    int32_t is_finite;
};
}

// Philox-4x32-10 (Salmon et al. 2011, section 3.3).
inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint64_t seed) {
    uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        const uint64_t first = 0xD2511F53ull * counter[0], second = 0xCD9E8D57ull * counter[2];
        counter = {static_cast<uint32_t>(second >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(second),
                   static_cast<uint32_t>(first >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(first)};
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return counter;
}

// The waiting times of a draw, as draws.py numbers them: one for each block, then one for each place in a block.
class Times {
public:
    explicit Times(const SgDraw& draw) : draw_(draw) {}

    double operator[](size_t number) {
        if (number / 4 != call_) {
            call_ = number / 4;
            words_ = philox({draw_.position, draw_.candidate, static_cast<uint32_t>(call_), 0}, draw_.seed);
        }
        return -std::log((words_[number % 4] + 0.5) * 0x1p-32);
    }

private:
    const SgDraw& draw_;
    size_t call_ = std::numeric_limits<size_t>::max();
    std::array<uint32_t, 4> words_ = {};
};

// What is known of a block of 256 logits.
struct BlockFacts {
    float highest;           // NaN if any is
    float total;             // sum of e^(logit - highest)
    float total_of_weights;  // sum of e^((logit - highest) / temperature)
};

inline void adjust(float* logits, const SgDraw& draw, const SgAdjustment* adjustments, size_t first, size_t end) {
    const SgAdjustment* last = adjustments + draw.last_adjustment;
    const SgAdjustment* at =
        std::lower_bound(adjustments + draw.first_adjustment, last, first,
                         [](const SgAdjustment& item, size_t id) { return static_cast<size_t>(item.id) < id; });
    for (; at != last && static_cast<size_t>(at->id) < end; at++) {
        float logit = logits[at->id];
        if (at->in_prompt > 0 || at->produced > 0)
            logit = logit < 0 ? logit * draw.repetition_penalty : logit / draw.repetition_penalty;
        logit =
            logit - at->produced * draw.frequency_penalty - (at->produced > 0 ? draw.presence_penalty : 0) + at->bias;
        logits[at->id] = logit < -LARGEST_LOGIT ? -LARGEST_LOGIT : logit > LARGEST_LOGIT ? LARGEST_LOGIT : logit;
    }
}

// `logits`: BLOCK of them; those past the vocabulary are -infinity.
inline BlockFacts judge(const float* logits, const SgDraw& draw) {
    Floats highest = load(logits);
    for (size_t i = LANES; i < BLOCK; i += LANES) {
        const Floats next = load(logits + i);
        highest = choose((next > highest) | (next != next), next, highest);
    }
    BlockFacts facts = {};
    facts.highest = highest[0];
    for (int lane = 1; lane < LANES; lane++)
        if (highest[lane] > facts.highest || highest[lane] != highest[lane]) facts.highest = highest[lane];
    const bool weighs = !draw.is_greedy, tells = draw.logprobs >= 0;
    Floats total = {}, weights = {};
    for (size_t i = 0; (weighs || tells) && i < BLOCK; i += LANES) {
        const Floats below = load(logits + i) - facts.highest;
        if (tells) total += exponential(below);
        if (weighs) weights += exponential(below / draw.temperature);
    }
    facts.total = sum(total);
    facts.total_of_weights = sum(weights);
    return facts;
}

struct Candidate {
    float score;  // logit / temperature
    int32_t id;
};

// Draws one row after another; what it needs is kept in between.
class Sampler {
public:
    // Take the memory that draws of so many logits need: in them there is nobody to tell of its lack.
    void reserve(size_t size) {
        const size_t blocks = (size + BLOCK - 1) / BLOCK;
        scratch_.reserve(std::max(size, blocks));
        candidates_.reserve(size);
        weights_.reserve(size);
        block_weights_.reserve(blocks);
        distances_.reserve(size);
    }

    // `logits`: whole blocks, adjusted; `facts`: one for each block; `top_ids`, `top_logprobs`: room for draw.logprobs.
    SgDrawn draw(const float* logits, const BlockFacts* facts, size_t size, const SgDraw& draw, int64_t* top_ids,
                 float* top_logprobs) {
        logits_ = logits, facts_ = facts, size_ = size, blocks_ = (size + BLOCK - 1) / BLOCK;
        highest_ = facts[0].highest;
        for (size_t block = 1; block < blocks_; block++)
            if (facts[block].highest > highest_ || facts[block].highest != facts[block].highest)
                highest_ = facts[block].highest;
        if (!std::isfinite(highest_)) return {0, 0, false};
        SgDrawn result = {0, 0, true};
        result.id = draw.is_greedy ? likeliest() : draw.is_filtered ? of_survivors(draw) : of_all(draw);
        if (draw.logprobs >= 0) {
            double total = 0;
            for (size_t block = 0; block < blocks_; block++)
                total += facts[block].total * std::exp(static_cast<double>(facts[block].highest - highest_));
            const double log_total = highest_ + std::log(total);
            result.logprob = static_cast<float>(logits[result.id] - log_total);
            tell_likeliest(draw.logprobs, log_total, top_ids, top_logprobs);
        }
        return result;
    }

private:
    int64_t likeliest() const {
        size_t id = 0;
        while (facts_[id / BLOCK].highest != highest_) id += BLOCK;
        while (logits_[id] != highest_) id++;
        return id;
    }

    // The race among blocks, then in the one that wins.
    int64_t of_all(const SgDraw& draw) {
        Times times(draw);
        size_t winner = 0;
        double first = std::numeric_limits<double>::infinity();
        for (size_t block = 0; block < blocks_; block++) {
            const double time = times[block] / block_weight(block, draw);
            if (time < first) first = time, winner = block;
        }
        int64_t id = winner * BLOCK;
        first = std::numeric_limits<double>::infinity();
        for (size_t i = 0; i < BLOCK; i++) {
            const double weight =
                std::exp(static_cast<double>((logits_[winner * BLOCK + i] - highest_) / draw.temperature));
            const double time = times[blocks_ + i] / weight;
            if (time < first) first = time, id = winner * BLOCK + i;
        }
        return id;
    }

    double block_weight(size_t block, const SgDraw& draw) const {
        const double below = static_cast<double>((facts_[block].highest - highest_) / draw.temperature);
        return facts_[block].total_of_weights * std::exp(below);
    }

    int64_t of_survivors(const SgDraw& draw) {
        double total = 0;
        for (size_t block = 0; block < blocks_; block++) total += block_weight(block, draw);
        const double log_total = static_cast<double>(highest_ / draw.temperature) + std::log(total);
        for (const size_t width : {FEW, MORE, size_}) {
            const float threshold = collect(width, draw.temperature);
            if (filter(draw, log_total, threshold)) break;
        }
        return race(draw);
    }

    // Candidates: all entries from a threshold on, at least `width` of them (or all there are), by score, then id.
    // Gives the score that what is left out is not above; -infinity if nothing is.
    float collect(size_t width, float temperature) {
        float threshold = -std::numeric_limits<float>::infinity();
        if (width < blocks_) {
            scratch_.clear();
            for (size_t block = 0; block < blocks_; block++) scratch_.push_back(facts_[block].highest);
            std::nth_element(scratch_.begin(), scratch_.begin() + width - 1, scratch_.end(), std::greater<float>());
            threshold = scratch_[width - 1];
        } else if (width < size_) {
            scratch_.assign(logits_, logits_ + size_);
            std::nth_element(scratch_.begin(), scratch_.begin() + width - 1, scratch_.end(), std::greater<float>());
            threshold = scratch_[width - 1];
        }
        candidates_.clear();
        for (size_t block = 0; block < blocks_; block++) {
            if (facts_[block].highest < threshold) continue;
            for (size_t id = block * BLOCK; id < std::min(size_, (block + 1) * BLOCK); id++)
                if (logits_[id] >= threshold)
                    candidates_.push_back({logits_[id] / temperature, static_cast<int32_t>(id)});
        }
        std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
            return a.score != b.score ? a.score > b.score : a.id < b.id;
        });
        return threshold / temperature;
    }

    // The candidates' weights, zero where a filter takes one away; false if what was left out might stay as well.
    bool filter(const SgDraw& draw, double log_total, float threshold) {
        const size_t count = candidates_.size();
        const bool complete = count == size_;
        weights_.resize(count);
        for (size_t i = 0; i < count; i++)
            weights_[i] = std::exp(static_cast<double>(candidates_[i].score) - log_total);
        size_t kept = count;
        double total = 1;
        if (static_cast<size_t>(draw.top_k) < size_) {
            const float kth = candidates_[std::min<size_t>(draw.top_k, count) - 1].score;
            if (!complete && !(kth > threshold)) return false;
            while (candidates_[kept - 1].score < kth) kept--;
            total = std::accumulate(weights_.begin(), weights_.begin() + kept, 0.0);
        }
        if (draw.top_p < 1) {
            double before = 0;
            size_t i = 0;
            for (; i < kept && before < draw.top_p * total; i++) before += weights_[i];
            kept = std::max<size_t>(i, 1);
        }
        while (kept > 1 && weights_[kept - 1] < draw.min_p * weights_[0]) kept--;
        if (!complete && !(candidates_[kept - 1].score > threshold)) return false;
        std::fill(weights_.begin() + kept, weights_.end(), 0.0);
        if (draw.typical_p < 1) keep_typical(draw.typical_p, kept);
        return true;
    }

    void keep_typical(double typical_p, size_t kept) {
        const double total = std::accumulate(weights_.begin(), weights_.begin() + kept, 0.0);
        double entropy = 0;
        distances_.resize(kept);
        for (size_t i = 0; i < kept; i++)
            if (weights_[i] > 0) entropy -= weights_[i] / total * std::log(weights_[i] / total);
        for (size_t i = 0; i < kept; i++) distances_[i] = {std::abs(-std::log(weights_[i] / total) - entropy), i};
        std::sort(distances_.begin(), distances_.end());
        double before = 0;
        size_t short_of = 0;
        for (; short_of < kept; short_of++) {
            before += weights_[distances_[short_of].second] / total;
            if (!(before < typical_p)) break;
        }
        const double furthest = distances_[std::min(short_of, kept - 1)].first;
        for (const auto& [distance, i] : distances_)
            if (distance > furthest) weights_[i] = 0;
    }

    int64_t race(const SgDraw& draw) {
        Times times(draw);
        block_weights_.assign(blocks_, 0.0);
        for (size_t i = 0; i < candidates_.size(); i++) block_weights_[candidates_[i].id / BLOCK] += weights_[i];
        size_t winner = 0;
        double first = std::numeric_limits<double>::infinity();
        for (size_t block = 0; block < blocks_; block++) {
            const double time = times[block] / block_weights_[block];
            if (time < first) first = time, winner = block;
        }
        int64_t id = candidates_[0].id;
        first = std::numeric_limits<double>::infinity();
        for (size_t i = 0; i < candidates_.size(); i++) {
            if (candidates_[i].id / BLOCK != winner || weights_[i] == 0) continue;
            const double time = times[blocks_ + candidates_[i].id % BLOCK] / weights_[i];
            if (time < first) first = time, id = candidates_[i].id;
        }
        return id;
    }

    void tell_likeliest(size_t count, double log_total, int64_t* ids, float* logprobs) {
        count = std::min(count, size_);
        if (!count) return;
        collect(count <= FEW && FEW < blocks_ ? FEW : size_, 1);
        for (size_t i = 0; i < count; i++) {
            ids[i] = candidates_[i].id;
            logprobs[i] = static_cast<float>(candidates_[i].score - log_total);
        }
    }

    const float* logits_ = nullptr;
    const BlockFacts* facts_ = nullptr;
    size_t size_ = 0, blocks_ = 0;
    float highest_ = 0;
    std::vector<float> scratch_;
    std::vector<Candidate> candidates_;
    std::vector<double> weights_, block_weights_;
    std::vector<std::pair<double, size_t>> distances_;
};

}  // namespace sluicegate
