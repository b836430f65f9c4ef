"""The command line's main job: finetune an encoder, full and pruned, and report both."""
