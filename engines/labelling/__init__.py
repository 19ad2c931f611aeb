"""Labelling: verdicts, queues, consensus, progress, agreement between readers. Imports no torch."""

from engines.labelling.agreement import Agreement, Dispute, Pair, agreement, disagreements
from engines.labelling.answers import PoolAnswers, newest_answers, pool_answers, save_pool_answers, suggestions
from engines.labelling.chain import ChainReport, check_chain
from engines.labelling.coefficients import Measure
from engines.labelling.consensus import Consensus, consensus, effective_labels, unlabelled
from engines.labelling.export import LabelExport, LabelFormat, export_labels
from engines.labelling.imports import LabelImport, import_labels
from engines.labelling.progress import ClassProgress, LabelProgress, RoundProgress, progress, stop_hint, wilson
from engines.labelling.queue import Task, adjudication_tasks, assign, tasks
from engines.labelling.recognise import find_image
from engines.labelling.rows import Standing, history, standing
from engines.labelling.settings import LabelSettings, label_settings, save_label_settings
from engines.labelling.undo import Change, OvertakenError, redo, undo, undoable
from engines.labelling.verdicts import Conflict, Entry, Receipt, Said, record, record_all

__all__ = [
    "Agreement",
    "ChainReport",
    "Change",
    "ClassProgress",
    "Conflict",
    "Consensus",
    "Dispute",
    "Entry",
    "LabelExport",
    "LabelFormat",
    "LabelImport",
    "LabelProgress",
    "LabelSettings",
    "Measure",
    "OvertakenError",
    "Pair",
    "PoolAnswers",
    "Receipt",
    "RoundProgress",
    "Said",
    "Standing",
    "Task",
    "adjudication_tasks",
    "agreement",
    "assign",
    "check_chain",
    "consensus",
    "disagreements",
    "effective_labels",
    "export_labels",
    "find_image",
    "history",
    "import_labels",
    "label_settings",
    "newest_answers",
    "pool_answers",
    "progress",
    "record",
    "record_all",
    "redo",
    "save_label_settings",
    "save_pool_answers",
    "standing",
    "stop_hint",
    "suggestions",
    "tasks",
    "undo",
    "undoable",
    "unlabelled",
    "wilson",
]
