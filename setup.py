"""Packaging: the library, the task files and the gin files, and the command `stepdistill`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# gin/ and its folders, as packages of data: gin/models -> stepdistill_jax.gin.models
GIN_FOLDERS = sorted({path.parent.relative_to(ROOT) for path in (ROOT / "gin").rglob("*.gin")})
GIN_PACKAGES = {f"stepdistill_jax.{'.'.join(folder.parts)}": folder.as_posix() for folder in GIN_FOLDERS}
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "stepdistill_jax" / "base" / "version.py").read_text())[
    1
]

setup(
    name="stepdistill-jax",
    version=VERSION,
    description="Distilling step-by-step: small T5 students of large language models, in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["stepdistill_jax", "stepdistill_jax.*", "tasks"]), *GIN_PACKAGES],
    package_dir=GIN_PACKAGES,
    package_data={
        "stepdistill_jax.datasets.wordproblems": ["vocabulary.model"],
        "stepdistill_jax.report.style": ["templates/*"],
        "stepdistill_jax.teacher.prompting": ["prompts/*.txt"],
        **{package: ["*.gin"] for package in GIN_PACKAGES},
    },
    entry_points={"console_scripts": ["stepdistill = stepdistill_jax.cli:main"]},
    install_requires=[
        "absl-py>=2.1",
        "aiohttp>=3.10",
        "clu>=0.0.12",
        "flax>=0.12",
        "gin-config>=0.5",
        "jax>=0.10",
        "jaxtyping>=0.3",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "numpy>=2.0",
        "openai>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11",
        "pooch[progress]>=1.8",
        "rich>=13.9",
        "rouge-score>=0.1.2",
        "sacrebleu>=2.4",
        "safetensors>=0.5",
        "scipy>=1.14",
        "sentencepiece>=0.2",
        "seqio>=0.0.20",
        "tensorboard>=2.18",
        "tensorflow>=2.18",
        "tensorflow-datasets>=4.9.9",
        "tqdm>=4.66",
    ],
    extras_require={
        # Accelerators: JAX's own extras.
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "dev": ["beartype>=0.18", "hypothesis>=6.100", "import-linter>=2.1", "pytest>=8.0", "ruff>=0.9"],
    },
)
