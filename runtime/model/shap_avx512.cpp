#include "runtime/model/shap_walk.hpp"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,prefer-vector-width=512")
namespace troupe::model {
namespace {
#include "runtime/model/shap_walker.hpp"
}  // namespace

shap_walks avx512_shap_walks() {
  return {explain_rows<1>, explain_rows<shap_lanes>};
}

}  // namespace troupe::model
#pragma GCC pop_options
#else
namespace troupe::model {
shap_walks avx512_shap_walks() {
  return portable_shap_walks();
}
}  // namespace troupe::model
#endif
