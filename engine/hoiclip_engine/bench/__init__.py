"""The parts of `hoiclip bench`: loads and their subjects, the machine, reports and the regression gate."""
