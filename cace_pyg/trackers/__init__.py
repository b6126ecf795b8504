"""For programs that track people: recognise who came back, and give embeddings in the forms that trackers need."""

from cace_pyg.trackers.person_memory import PersonMemory, Recognition
from cace_pyg.trackers.reid_model import ReidModel
from cace_pyg.trackers.track import Track
from cace_pyg.trackers.track_collector import TrackCollector, crop_boxes
from cace_pyg.trackers.tracker_onnx import write_tracker_onnx

__all__ = ["PersonMemory", "Recognition", "ReidModel", "Track", "TrackCollector", "crop_boxes", "write_tracker_onnx"]
