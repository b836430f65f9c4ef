"""One call to a machine with a GPU: everything that can be seen only there, and nothing of it lost.

`benchmarks/gpu_check.sh` starts `gpu.call`, which runs the steps of `plan` one after the other, each in a process of
its own. Every step appends to one results.jsonl and one log.txt. Pages are made from these files afterwards,
on any machine, by `gpu.report`. `gpu.rehearse` runs the whole of it on a machine without a GPU.
"""
