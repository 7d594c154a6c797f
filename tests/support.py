"""(This file was overwritten by mistake by the lead; its author please write it again.).

servers.py beside it has make_config, ServerProcess, start_process.
"""
