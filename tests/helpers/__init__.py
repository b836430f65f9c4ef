"""What several test files use.

What only one test file uses is in that file.  What all tests of a room use is a fixture.

The toy problem, on which everything is trained that has to be:

- `toy`: its data, its network, and a user's plain loop around a pruner.
- `toy_trainer`, `toy_lightning`: the same data for a Hugging Face Trainer and for Lightning.
- `tiny_trl`, `trl_trainers`: language models, texts and TRL's trainers that train in a second.
- `older_trainers`: what Trainers of older versions do otherwise.
- `two_passes`: Trainers that run the model twice on a batch.
- `one_process`: what one process would have done with the steps of several.

Made-up files and records:

- `made_up_data`: utterances, and the folders that they are read from.  `public_forms`: the same in every form that
  `fastprune.app.data` reads.  `made_up_turns`: rows for language models.  `damage`: changes to any file.
- `made_up_runs`: run folders.  `without_picture`: reports without their picture, which takes longer than a run.
- `recorded`: a run's scores, recorded in full beside the streaming history.
- `made_up_lines`, `tiny_runs`: results of `benchmarks.evidence`, and runs that make some.  `made_up_call`: a call to a
  GPU machine.

Processes:

- `forked`: new processes that have imported everything already.
- `under_torchrun`: several of them as ranks.  Their worker lies beside the test that starts it.
- `fsdp_on_cpu`: lets Accelerate use FSDP on the CPU.

Triton without a GPU:

- `interpreter`: tests in its interpreter.  `interpreter_fixes`: mends the interpreter.
- `ahead_of_time`: compiles and disassembles kernels.

And `combinations`: parameters that are too many to try all combinations of in every run.

Nothing is imported here: a GPU machine has few packages.
"""
