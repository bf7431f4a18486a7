"""GPT-2's forward pass on a CPU in C++: built for this machine at the first start, or ahead.

python -m sluicegate.server.gpt2.kernels [DIRECTORY]      builds it ahead, for this machine's processor
"""

from sluicegate.server.gpt2.kernels.build import KernelsUnavailable
from sluicegate.server.gpt2.kernels.library import Kernels, open_kernels

__all__ = ["Kernels", "KernelsUnavailable", "open_kernels"]
