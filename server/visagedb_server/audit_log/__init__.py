"""The audit log: who did what and when, so that nobody can change it without being noticed.

entries.py    what is written down
chain.py      lines of a file, each under a keyed digest that covers the one before
folder.py     the files, oldest and newest, and their head
writer.py     the queue, and the thread that writes and syncs
reading.py    entries by filter, newest or oldest first
verifying.py  proves that nothing was changed, removed, inserted, reordered or cut off
facts.py      entries from requests and answers, without vectors and images
"""

from visagedb_server.audit_log.entries import Entry
from visagedb_server.audit_log.writer import AuditLog

__all__ = ["AuditLog", "Entry"]
