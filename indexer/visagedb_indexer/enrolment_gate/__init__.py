"""What a gallery asks of a face before it is enrolled, and the faces that it sets aside."""

from visagedb_indexer.enrolment_gate.aside import set_aside
from visagedb_indexer.enrolment_gate.gate import EnrolmentGate, check_thresholds
from visagedb_indexer.enrolment_gate.judgement import Judgement, Verdicts

__all__ = ["EnrolmentGate", "Judgement", "Verdicts", "check_thresholds", "set_aside"]
