"""Writes down what came of each task of scripts/ansible/operations.ts, and what its folder then holds: a line of JSON each.

A task is called "CASE PHASE"; its folder is $REKEY_CASES/CASE, the lines go to $REKEY_CASES/answers.
"""

import json
import os
import re
import subprocess
import tempfile

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = '''
name: rekey_cases
type: stdout
short_description: results of tasks, and folders
description: For the tests of operations.
'''


def described(path, seen, owner):
    """One thing, as the cases have it."""
    is_at = os.lstat(path)
    whose = {} if owner == (is_at.st_uid, is_at.st_gid) else {'owner': f'{is_at.st_uid}:{is_at.st_gid}'}
    if os.path.islink(path):
        return {'link': os.readlink(path), **whose}
    mode = '%04o' % (is_at.st_mode & 0o7777)
    if os.path.isdir(path):
        return {'mode': mode, **whose}
    if is_at.st_ino in seen:
        return {'same': seen[is_at.st_ino]}
    seen[is_at.st_ino] = os.path.basename(path)
    if os.environ.get('REKEY_ARCHIVES') and re.search(r'\.(tar|tgz|tbz|txz)$', path):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            if subprocess.run(['tar', '-C', folder, '-xpf', path], capture_output=True).returncode == 0:
                return {'holds': tree(folder), 'mode': mode, **whose}
    with open(path, 'rb') as file:
        content = file.read()
    try:
        held = {'content': content.decode()}
    except UnicodeDecodeError:
        held = {'bytes': content.hex()}
    return {**held, 'mode': mode, **whose}


def tree(folder):
    """All that is in a folder, by its path in it; folders end with a slash."""
    found, seen = {}, {}
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(parent, name)
            slash = '/' if os.path.isdir(path) and not os.path.islink(path) else ''
            found[os.path.relpath(path, folder) + slash] = path
    owner = (os.getuid(), os.getgid())
    return {name: described(found[name], seen, owner) for name in sorted(found)}


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'stdout'
    CALLBACK_NAME = 'rekey_cases'

    def write(self, result, **said):
        cases = os.environ['REKEY_CASES']
        number, phase = result._task.get_name().split(' : ')[-1].split(' ')
        line = {'case': int(number), 'phase': phase, 'tree': tree(os.path.join(cases, number)), **said}
        # What is in a case's folder has its own name there.
        text = json.dumps({**line, 'result': result._result}, default=str)
        with open(os.path.join(cases, 'answers'), 'a') as file:
            file.write(text.replace(os.path.join(cases, number), '@') + '\n')

    def v2_runner_on_ok(self, result):
        self.write(result, failed=False)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.write(result, failed=True)

    def v2_runner_on_skipped(self, result):
        self.write(result, failed=False, skipped=True)

    def v2_runner_on_unreachable(self, result):
        raise SystemExit('unreachable')
