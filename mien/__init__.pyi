# What `import mien` offers, for type checkers and editors; __init__.py loads it when it is used.
from mien.api import Advice as Advice
from mien.api import Audit as Audit
from mien.api import Leakage as Leakage
from mien.api import StoredFaces as StoredFaces
from mien.api import Study as Study
from mien.api import ask_advice as ask_advice
from mien.api import audit_faces as audit_faces
from mien.api import distill as distill
from mien.api import draw_toy as draw_toy
from mien.api import export_faces as export_faces
from mien.api import filter_faces as filter_faces
from mien.api import find_leakage as find_leakage
from mien.api import generate_faces as generate_faces
from mien.api import ingest_folder as ingest_folder
from mien.api import keep_faces as keep_faces
from mien.api import load_faces as load_faces
from mien.api import open_store as open_store
from mien.api import preprocess_faces as preprocess_faces
from mien.api import run_study as run_study
from mien.api import split_faces as split_faces
from mien.api import train_generator as train_generator
from mien.api import write_report as write_report
from mien.errors import MienError as MienError
from mien.faces import EMOTIONS as EMOTIONS
from mien.faces import Faces as Faces
from mien.runs.store import Run as Run
from mien.runs.store import Store as Store

__all__: list[str]
__version__: str
