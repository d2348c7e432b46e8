// Human-object interactions of one image, from an exported folder, without Python: the triplets of Engine.detect.
//
//   hoiclip export drawn -o folder --with-model
//   hoiclip_detect folder image.ppm
//
// Prints one JSON line per triplet. The image is binary PPM (P6, 8 bits), so that no decoder is needed. Sizes, means,
// names and the graph are those of the folder's model.json; the rules of scoring are those of docs/model.md.
// The folder may come from anywhere: what it says is checked, and an error is one line.
// Exit codes: 0, 2 wrong usage, 3 unusable image, 4 unusable folder.

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>
#include <openssl/evp.h>

namespace {

using Json = nlohmann::json;

// The official rules (docs/model.md, Scores) and limits; everything about the model is in its folder.
constexpr std::size_t kTopK = 100;
constexpr double kNmsThreshold = 0.7, kHumanPower = 1.0, kObjectPower = 0.5;
constexpr float kMaxCoordinatePx = 1e9f;
constexpr std::int64_t kMaxSidePx = 8192, kMaxImageSidePx = 1 << 16, kSmallestCells = 2, kLongestClipSides = 16;
constexpr std::uintmax_t kMaxMetadataBytes = 16u << 20, kMaxFileBytes = 2u << 30;

struct ImageError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct BundleError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

template <typename Error>
void require(bool holds, const std::string& message) {
    if (!holds) throw Error(message);
}

template <typename Error>
std::string read_file(const std::filesystem::path& path, std::uintmax_t max_bytes) {
    std::error_code code;  // a pipe or a device would block
    require<Error>(std::filesystem::is_regular_file(path, code), path.string() + " is no regular file");
    const auto size = std::filesystem::file_size(path, code);
    const auto limit = std::to_string(max_bytes >> 20) + " MiB";
    require<Error>(!code && size <= max_bytes, path.string() + " is larger than " + limit);
    std::string bytes(size, '\0');
    std::ifstream file(path, std::ios::binary);
    file.read(bytes.data(), static_cast<std::streamsize>(size));
    require<Error>(file.good(), path.string() + " cannot be read");
    return bytes;
}

// ---------------------------------------------------------------------------------------------------------- bundle

struct Normalisation {
    std::array<float, 3> mean, std;
};

struct Bundle {
    std::int64_t short_side_px, max_side_px, stride_px, clip_side_px;
    Normalisation detector, clip;
    std::vector<std::string> objects, verbs;
    std::vector<std::size_t> verb_of_hoi, object_of_hoi;
    std::size_t num_object_classes;  // one more than objects where a person can act without one (V-COCO)
    std::string graph;

    bool has_no_object_class() const { return num_object_classes > objects.size(); }
};

// Foreign text in one line of a terminal.
std::string shown(const Json& value) { return value.dump(-1, ' ', true).substr(0, 40); }

std::int64_t whole(const Json& value, std::int64_t low, std::int64_t high) {
    const auto number = value.is_number_integer() ? value.get<std::int64_t>() : low - 1;
    const auto expected = "expected an integer from " + std::to_string(low) + " to " + std::to_string(high);
    require<BundleError>(number >= low && number <= high, expected + ", found " + shown(value));
    return number;
}

std::vector<std::string> words(const Json& values) {
    auto found = values.get<std::vector<std::string>>();
    require<BundleError>(!found.empty(), "expected at least one object, verb and HOI");
    for (auto& word : found) std::replace(word.begin(), word.end(), '_', ' ');
    return found;
}

Normalisation normalisation(const Json& entry) {
    using Channels = std::array<float, 3>;
    const Normalisation found{entry.at("mean").get<Channels>(), entry.at("std").get<Channels>()};
    for (const float mean : found.mean) require<BundleError>(std::isfinite(mean), "expected finite means");
    for (const float std : found.std)
        require<BundleError>(std::isfinite(std) && std > 1e-6f, "expected positive standard deviations");
    return found;
}

std::string sha256(const std::string& bytes) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned size = 0;
    require<BundleError>(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1,
                         "SHA-256 cannot be computed");
    std::string text;
    constexpr auto digits = "0123456789abcdef";
    for (unsigned i = 0; i < size; ++i) text += {digits[digest[i] >> 4], digits[digest[i] & 15]};
    return text;
}

// The whole model in fp32 for one image of any size, with its weights inside, unchanged since the export.
std::string read_graph(const std::filesystem::path& folder, const Json& graphs) {
    for (const auto& entry : graphs) {
        const auto& form = entry.at("form");
        if (form.at("part") != "whole" || form.at("attention") != "plain" || form.at("batch") != 1 ||
            !form.at("canvas_hw").is_null() || entry.contains("precision") || entry.contains("data"))
            continue;
        const auto name = entry.at("file").get<std::string>();
        const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
            return c < 128 && (std::isalnum(c) || c == '.' || c == '-' || c == '_');
        });
        require<BundleError>(plain, "expected the name of a graph in the folder, found " + shown(name));
        auto graph = read_file<BundleError>(folder / name, kMaxFileBytes);
        const bool unchanged = sha256(graph) == entry.at("sha256").get<std::string>();
        require<BundleError>(unchanged, name + " is damaged or another file");
        return graph;
    }
    throw BundleError("expected a whole, plain graph in fp32 for one image of any size, found none");
}

Bundle read_bundle(const std::filesystem::path& folder) {
    const auto metadata = Json::parse(read_file<BundleError>(folder / "model.json", kMaxMetadataBytes));
    require<BundleError>(metadata.at("schema") == "hoiclip-graph/1", "expected schema hoiclip-graph/1");
    const auto& images = metadata.at("preprocessing").at("images");
    const auto& clip_images = metadata.at("preprocessing").at("clip_images");
    const auto& labels = metadata.at("vocabulary").at("labels");
    Bundle bundle;
    bundle.short_side_px = whole(images.at("short_side_px"), 1, kMaxSidePx);
    bundle.max_side_px = whole(images.at("max_side_px"), 1, kMaxSidePx);
    bundle.stride_px = whole(images.at("stride_px"), 1, kMaxSidePx / kSmallestCells);
    bundle.clip_side_px = whole(clip_images.at("side_px"), 1, kMaxSidePx / 4);
    bundle.detector = normalisation(images);
    bundle.clip = normalisation(clip_images);
    bundle.objects = words(labels.at("objects"));
    bundle.verbs = words(labels.at("verbs"));
    bundle.num_object_classes = words(labels.at("object_prompts")).size() - 1;  // the last is "nothing"
    const bool fits = bundle.num_object_classes - bundle.objects.size() <= 1;  // unsigned: fewer is far more
    require<BundleError>(fits, "expected one or two more object prompts than objects");
    for (const auto& hoi : labels.at("hois")) {
        bundle.verb_of_hoi.push_back(whole(hoi.at(0), 0, bundle.verbs.size() - 1));
        bundle.object_of_hoi.push_back(whole(hoi.at(1), 0, bundle.num_object_classes - 1));
    }
    bundle.graph = read_graph(folder, metadata.at("graphs"));
    return bundle;
}

// ----------------------------------------------------------------------------------------------------------- image

struct Image {
    std::int64_t width, height;
    std::vector<std::uint8_t> rgb;  // rows of red, green, blue
};

Image read_ppm(const std::filesystem::path& path) {
    const auto bytes = read_file<ImageError>(path, kMaxFileBytes);
    const auto damaged = path.string() + " is no whole binary PPM (P6) of 8 bits";
    require<ImageError>(bytes.rfind("P6", 0) == 0, damaged);
    std::size_t at = 2;
    const auto number = [&](std::int64_t high) {
        while (at < bytes.size() && (std::isspace(static_cast<unsigned char>(bytes[at])) || bytes[at] == '#'))
            at = bytes[at] == '#' ? std::min(bytes.find('\n', at), bytes.size()) : at + 1;
        std::int64_t value = 0;
        for (; at < bytes.size() && bytes[at] >= '0' && bytes[at] <= '9' && value <= high; ++at)
            value = 10 * value + (bytes[at] - '0');
        require<ImageError>(value >= 1 && value <= high, damaged);
        return value;
    };
    Image image{number(kMaxImageSidePx), number(kMaxImageSidePx), {}};
    const bool is_8_bit = number(255) == 255;
    require<ImageError>(is_8_bit && at < bytes.size() && std::isspace(static_cast<unsigned char>(bytes[at])), damaged);
    const auto size = static_cast<std::size_t>(3 * image.width * image.height);
    require<ImageError>(bytes.size() - ++at >= size, damaged);
    image.rgb.assign(bytes.begin() + at, bytes.begin() + at + size);
    return image;
}

enum class Filter { kBilinear, kBicubic };

double weight_at(double x, Filter filter) {
    x = std::abs(x);
    if (filter == Filter::kBilinear) return std::max(1.0 - x, 0.0);
    constexpr double a = -0.5;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

// A part of a line that is resized to `outputs` pixels, of which `kept` from `skipped` on are wanted.
struct Span {
    double start, stop;
    std::int64_t outputs, skipped, kept;
};

// One output pixel as a sum of inputs from `first` on; the weights have 22 fraction bits.
struct Taps {
    std::int64_t first;
    std::vector<std::int32_t> weights;
};

// Pillow's documented resampling: support scaled by the shrink factor, weights normalised, then rounded.
std::vector<Taps> taps(std::int64_t size, const Span& span, Filter filter) {
    const double scale = (span.stop - span.start) / static_cast<double>(span.outputs), shrink = std::max(scale, 1.0);
    const double support = (filter == Filter::kBilinear ? 1.0 : 2.0) * shrink;
    std::vector<Taps> found;
    for (std::int64_t output = span.skipped; output < span.skipped + span.kept; ++output) {
        const double centre = span.start + (static_cast<double>(output) + 0.5) * scale;
        const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(centre - support + 0.5), 0);
        const auto last = std::min<std::int64_t>(static_cast<std::int64_t>(centre + support + 0.5), size);
        std::vector<double> weights;
        double total = 0;
        for (auto input = first; input < last; ++input) {
            weights.push_back(weight_at((static_cast<double>(input) - centre + 0.5) * (1.0 / shrink), filter));
            total += weights.back();
        }
        Taps one{first, {}};
        for (double weight : weights) {
            weight = total != 0 ? weight / total : weight;
            one.weights.push_back(static_cast<std::int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << 22)));
        }
        found.push_back(std::move(one));
    }
    return found;
}

std::uint8_t filtered(const std::uint8_t* input, std::int64_t step, const Taps& one) {
    std::int32_t total = 1 << 21;
    input += one.first * step;
    for (const auto weight : one.weights) {
        total += weight * *input;
        input += step;
    }
    return static_cast<std::uint8_t>(std::clamp(total >> 22, 0, 255));
}

// First across, then down, each rounded to bytes.
Image resize(const Image& image, const Span& columns, const Span& rows, Filter filter) {
    Image across{columns.kept, image.height, std::vector<std::uint8_t>(3 * columns.kept * image.height)};
    const auto column_taps = taps(image.width, columns, filter);
    for (std::int64_t y = 0; y < image.height; ++y)
        for (std::int64_t x = 0; x < columns.kept; ++x)
            for (std::int64_t c = 0; c < 3; ++c)
                across.rgb[3 * (y * columns.kept + x) + c] =
                    filtered(&image.rgb[3 * y * image.width + c], 3, column_taps[x]);
    Image out{columns.kept, rows.kept, std::vector<std::uint8_t>(3 * columns.kept * rows.kept)};
    const auto row_taps = taps(image.height, rows, filter);
    for (std::int64_t y = 0; y < rows.kept; ++y)
        for (std::int64_t x = 0; x < 3 * columns.kept; ++x)
            out.rgb[3 * y * columns.kept + x] = filtered(&across.rgb[x], 3 * columns.kept, row_taps[y]);
    return out;
}

// Short side to short_side_px, unless the long side would then exceed max_side_px.
Image detector_image(const Image& image, const Bundle& bundle) {
    const auto short_side = std::min(image.width, image.height), long_side = std::max(image.width, image.height);
    auto side = bundle.short_side_px;
    if (static_cast<double>(long_side) / short_side * side > bundle.max_side_px)
        side = std::llrint(static_cast<double>(bundle.max_side_px * short_side) / long_side);  // half to even
    const auto other = side == 0 ? bundle.max_side_px
                       : side == short_side
                           ? long_side
                           : static_cast<std::int64_t>(static_cast<double>(side * long_side) / short_side);
    side = std::max<std::int64_t>(side, 1);
    const bool upright = image.width < image.height;
    const auto width = upright ? side : other, height = upright ? other : side;
    return resize(image, {0, static_cast<double>(image.width), width, 0, width},
                  {0, static_cast<double>(image.height), height, 0, height}, Filter::kBilinear);
}

// The middle square of the detector image. Of a very long image only about the square is resized.
Image clip_image(const Image& image, std::int64_t side) {
    const auto span = [&](std::int64_t length, std::int64_t other) -> Span {
        const auto end = static_cast<double>(length);
        if (length <= other) return {0, end, side, 0, side};
        const auto after = static_cast<std::int64_t>(static_cast<double>(side * length) / other);
        const auto offset = std::llrint(static_cast<double>(after - side) / 2);
        if (after <= kLongestClipSides * side) return {0, end, after, offset, side};
        const double step = end / static_cast<double>(after);  // Pillow keeps the cut in float
        const double stop = std::min(end, static_cast<double>(offset + side) * step);
        return {static_cast<float>(static_cast<double>(offset) * step), static_cast<float>(stop), side, 0, side};
    };
    return resize(image, span(image.width, image.height), span(image.height, image.width), Filter::kBicubic);
}

// (3, padded height, padded width): planes of normalised values, zero on the padding.
std::vector<float> planes(const Image& image, const Normalisation& by, std::int64_t padded_height,
                          std::int64_t padded_width) {
    std::vector<float> out(3 * padded_height * padded_width, 0.0f);
    for (std::int64_t c = 0; c < 3; ++c)
        for (std::int64_t y = 0; y < image.height; ++y)
            for (std::int64_t x = 0; x < image.width; ++x) {
                const float unit = static_cast<float>(image.rgb[3 * (y * image.width + x) + c]) / 255.0f;
                out[(c * padded_height + y) * padded_width + x] = (unit - by.mean[c]) / by.std[c];
            }
    return out;
}

// ------------------------------------------------------------------------------------------------------- inference

struct RawOutput {
    std::int64_t queries;
    std::vector<float> hoi_logits, object_logits, human_boxes_cxcywh, object_boxes_cxcywh;
};

std::vector<float> output_of(const Ort::Value& value, const std::vector<std::int64_t>& expected) {
    require<BundleError>(value.IsTensor(), "the graph gives something else than tensors");
    const auto about = value.GetTensorTypeAndShapeInfo();
    require<BundleError>(about.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && about.GetShape() == expected,
                         "the graph gives outputs of another shape than its vocabulary has");
    const auto* data = value.GetTensorData<float>();
    std::vector<float> found(data, data + about.GetElementCount());
    require<BundleError>(std::all_of(found.begin(), found.end(), [](float x) { return std::isfinite(x); }),
                         "the graph gives numbers that are NaN or infinite");
    return found;
}

RawOutput infer(const Bundle& bundle, const Image& image) {
    const auto detector = detector_image(image, bundle);
    const auto clip = clip_image(detector, bundle.clip_side_px);
    const auto padded = [&](std::int64_t side) {
        return std::max((side + bundle.stride_px - 1) / bundle.stride_px, kSmallestCells) * bundle.stride_px;
    };
    const auto height = padded(detector.height), width = padded(detector.width);
    auto images = planes(detector, bundle.detector, height, width);
    auto clip_images = planes(clip, bundle.clip, clip.height, clip.width);
    std::vector<std::uint8_t> padding(height * width, 1);
    for (std::int64_t y = 0; y < detector.height; ++y) std::fill_n(padding.begin() + y * width, detector.width, 0);

    const Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "hoiclip");  // errors come as exceptions
    Ort::Session session(env, bundle.graph.data(), bundle.graph.size(), Ort::SessionOptions{});
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
    const std::array<std::int64_t, 4> images_shape{1, 3, height, width}, clip_shape{1, 3, clip.height, clip.width};
    const std::array<std::int64_t, 3> padding_shape{1, height, width};
    const std::array<Ort::Value, 3> inputs{
        Ort::Value::CreateTensor<float>(memory, images.data(), images.size(), images_shape.data(), 4),
        Ort::Value::CreateTensor(memory, padding.data(), padding.size(), padding_shape.data(), 3,
                                 ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL),
        Ort::Value::CreateTensor<float>(memory, clip_images.data(), clip_images.size(), clip_shape.data(), 4),
    };
    const char* const input_names[] = {"images", "padding", "clip_images"};
    const char* const output_names[] = {"hoi_logits", "object_logits", "human_boxes_cxcywh", "object_boxes_cxcywh"};
    const auto values = session.Run(Ort::RunOptions{}, input_names, inputs.data(), inputs.size(), output_names, 4);
    const auto shape = values[0].GetTensorTypeAndShapeInfo().GetShape();
    require<BundleError>(shape.size() == 3, "the graph gives outputs of another shape than its vocabulary has");
    const auto queries = shape[1], hois = static_cast<std::int64_t>(bundle.verb_of_hoi.size());
    return {
        queries,
        output_of(values[0], {1, queries, hois}),
        output_of(values[1], {1, queries, static_cast<std::int64_t>(bundle.num_object_classes + 1)}),
        output_of(values[2], {1, queries, 4}),
        output_of(values[3], {1, queries, 4}),
    };
}

// -------------------------------------------------------------------------------------------------- postprocessing

using Box = std::array<float, 4>;  // x1, y1, x2, y2 in pixels of the original image, not clipped

struct Triplet {
    double score;  // hoi + object squared
    std::size_t query, klass, hoi;
};

float sigmoid(float logit) { return 1.0f / (1.0f + std::exp(-logit)); }

Box box_xyxy(const float* cxcywh, const Image& image) {
    const float half_width = cxcywh[2] * 0.5f, half_height = cxcywh[3] * 0.5f;
    const auto width = static_cast<float>(image.width), height = static_cast<float>(image.height);
    return {(cxcywh[0] - half_width) * width, (cxcywh[1] - half_height) * height, (cxcywh[0] + half_width) * width,
            (cxcywh[1] + half_height) * height};
}

bool within_reach(const Box& box) {
    return std::all_of(box.begin(), box.end(), [](float x) { return std::abs(x) < kMaxCoordinatePx; });
}

// A box from pixel x1 to pixel x2 is x2 - x1 + 1 wide, as in the official evaluation.
double box_iou(const Box& a, const Box& b) {
    const auto side = [](double low, double high) { return high - low + 1; };
    const auto area = [&](const Box& box) { return side(box[0], box[2]) * side(box[1], box[3]); };
    const double common = std::max(side(std::max(a[0], b[0]), std::min(a[2], b[2])), 0.0) *
                          std::max(side(std::max(a[1], b[1]), std::min(a[3], b[3])), 0.0);
    const double all = area(a) + area(b) - common;
    return common > 0 && all > 0 ? common / all : 0.0;
}

// Best first. Under the HICO rule every HOI is a class; where a person can act without an object, the classes are the
// verbs, each with its best HOI.
std::vector<Triplet> best_triplets(const RawOutput& raw, const Bundle& bundle, const std::vector<bool>& usable) {
    const auto hois = bundle.verb_of_hoi.size(), object_logits = bundle.num_object_classes + 1;
    std::vector<Triplet> found;
    for (std::size_t query = 0; query < usable.size(); ++query) {
        if (!usable[query]) continue;
        std::map<std::size_t, Triplet> best_of_class;
        for (std::size_t hoi = 0; hoi < hois; ++hoi) {
            const float object = sigmoid(raw.object_logits[query * object_logits + bundle.object_of_hoi[hoi]]);
            const double score = sigmoid(raw.hoi_logits[query * hois + hoi]) + object * object;
            const auto klass = bundle.has_no_object_class() ? bundle.verb_of_hoi[hoi] : hoi;
            const auto [best, is_new] = best_of_class.try_emplace(klass, Triplet{score, query, klass, hoi});
            if (!is_new && score > best->second.score) best->second = {score, query, klass, hoi};
        }
        for (const auto& [klass, triplet] : best_of_class) found.push_back(triplet);
    }
    std::sort(found.begin(), found.end(), [](const Triplet& a, const Triplet& b) {
        return std::tie(b.score, a.query, a.klass) < std::tie(a.score, b.query, b.klass);
    });
    found.resize(std::min(found.size(), kTopK));
    return found;
}

// Without duplicates: classes in the order of their best triplet, falling scores within a class.
std::vector<Triplet> without_duplicates(const std::vector<Triplet>& triplets, const std::vector<Box>& humans,
                                        const std::vector<Box>& objects) {
    std::vector<std::vector<Triplet>> classes;
    for (const auto& triplet : triplets) {
        auto found = std::find_if(classes.begin(), classes.end(),
                                  [&](const auto& kept) { return kept.front().klass == triplet.klass; });
        if (found == classes.end()) found = classes.insert(classes.end(), std::vector<Triplet>{});
        const bool doubled = std::any_of(found->begin(), found->end(), [&](const Triplet& kept) {
            return std::pow(box_iou(humans[triplet.query], humans[kept.query]), kHumanPower) *
                       std::pow(box_iou(objects[triplet.query], objects[kept.query]), kObjectPower) >
                   kNmsThreshold;
        });
        if (!doubled) found->push_back(triplet);
    }
    std::vector<Triplet> kept;
    for (const auto& of_class : classes) kept.insert(kept.end(), of_class.begin(), of_class.end());
    return kept;
}

// The object of a triplet: of its HOI, or, where verbs are scored, the best class of its query.
std::size_t object_of(const Triplet& triplet, const RawOutput& raw, const Bundle& bundle) {
    if (!bundle.has_no_object_class()) return bundle.object_of_hoi[triplet.hoi];
    const auto first = raw.object_logits.begin() + triplet.query * (bundle.num_object_classes + 1);
    return std::max_element(first, first + bundle.num_object_classes) - first;
}

void print_triplets(const RawOutput& raw, const Bundle& bundle, const Image& image) {
    std::vector<Box> humans, objects;
    std::vector<bool> usable;
    for (std::int64_t query = 0; query < raw.queries; ++query) {
        humans.push_back(box_xyxy(&raw.human_boxes_cxcywh[4 * query], image));
        objects.push_back(box_xyxy(&raw.object_boxes_cxcywh[4 * query], image));
        usable.push_back(within_reach(humans.back()) && within_reach(objects.back()));
    }
    auto triplets = best_triplets(raw, bundle, usable);
    if (!bundle.has_no_object_class()) triplets = without_duplicates(triplets, humans, objects);
    for (const auto& triplet : triplets) {
        const auto object = object_of(triplet, raw, bundle);
        std::cout << nlohmann::ordered_json{
                         {"verb", bundle.verbs[bundle.verb_of_hoi[triplet.hoi]]},
                         {"object", object < bundle.objects.size() ? bundle.objects[object] : ""},
                         {"score", 0.5 * triplet.score},
                         {"human_box_xyxy", humans[triplet.query]},
                         {"object_box_xyxy", objects[triplet.query]},
                     }
                  << "\n";
    }
}

int failed(int code, const std::string& message) {
    std::cerr << "hoiclip_detect: " << message << "\n";
    return code;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return failed(2, "expected two arguments, FOLDER IMAGE.ppm");
    const std::string folder = argv[1];
    try {
        const auto image = read_ppm(argv[2]);
        const auto bundle = read_bundle(folder);
        print_triplets(infer(bundle, image), bundle, image);
        return 0;
    } catch (const ImageError& error) {
        return failed(3, error.what());
    } catch (const std::exception& error) {  // also of the JSON parser and of ONNX Runtime
        const std::string text = error.what();
        return failed(4, folder + " cannot be run: " + text.substr(0, text.find('\n')) +
                             "; export it again: hoiclip export MODEL -o DIR --with-model");
    }
}
