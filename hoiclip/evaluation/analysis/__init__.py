"""Error analysis of HOI triplets: why ground truth is missed, what false positives are, what mending each would bring.

After Hoiem et al., *Diagnosing Error in Object Detectors*, ECCV 2012 (kinds of false positives among the best-scored of
each class, attributes of objects), and TIDE (Bolya et al., *TIDE: A General Toolbox for Identifying Object Detection
Errors*, ECCV 2020: exclusive kinds, oracles that mend one at a time). Pure numpy. docs/error_analysis.md has the rules.
"""

from hoiclip.evaluation.analysis.analyse import SCHEMA, ErrorAnalysis, analyse
from hoiclip.evaluation.analysis.classify import FalsePositives, Fates
from hoiclip.evaluation.analysis.kinds import FALSE_KINDS, FATES, AnalysisConfig
from hoiclip.evaluation.analysis.oracles import Oracle

__all__ = [
    "FALSE_KINDS",
    "FATES",
    "SCHEMA",
    "AnalysisConfig",
    "ErrorAnalysis",
    "FalsePositives",
    "Fates",
    "Oracle",
    "analyse",
]
