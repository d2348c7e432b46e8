"""Error analysis of HOI triplets: fates of ground truth, kinds of false positives, and oracle gains of mending each.

After Hoiem et al., *Diagnosing Error in Object Detectors*, ECCV 2012 (kinds of false positives among the best-scored of
each class, attributes of objects), and TIDE (Bolya et al., *TIDE: A General Toolbox for Identifying Object Detection
Errors*, ECCV 2020: exclusive kinds, oracles that mend one at a time). Pure numpy. docs/error_analysis.md has the rules.
"""

from hoiclip.evaluation.error_analysis.analysis import SCHEMA, ErrorAnalysis, analyse_errors
from hoiclip.evaluation.error_analysis.classify import FALSE_KINDS, FATES, AnalysisConfig, FalsePositives, Fates
from hoiclip.evaluation.error_analysis.oracles import Oracle

__all__ = [
    "FALSE_KINDS",
    "FATES",
    "SCHEMA",
    "AnalysisConfig",
    "ErrorAnalysis",
    "FalsePositives",
    "Fates",
    "Oracle",
    "analyse_errors",
]
