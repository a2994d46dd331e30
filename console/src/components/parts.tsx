// Small parts that many pages use.

import { CheckOutlined, CopyOutlined } from '@ant-design/icons';
import { Alert, Button, Tooltip } from 'antd';
import { useState } from 'react';
import { Failure } from '../api/client';
import { isKey } from '../i18n/translate';
import { useText } from '../state/preferences';
import { type StateKind, signs, type Tone, tone } from '../words/states';

/** A state as sign, word and colour; its meaning on hover and for screen readers. */
export function State({ kind, state }: { kind: StateKind; state: string }) {
  const { state: words } = useText();
  const { name, means } = words(kind, state);
  return (
    <Tooltip title={means}>
      <span className={`state tone-${tone(kind, state)}`} data-state={state}>
        <span aria-hidden="true">{signs[tone(kind, state)]}</span> {name}
      </span>
    </Tooltip>
  );
}

export function Mark({ tone: colour, children }: { tone: Tone; children: string }) {
  return <span className={`state mark tone-${colour}`}>{children}</span>;
}

/** The command that does the same, to be copied. */
export function Cli({ command, label }: { command: string; label?: string }) {
  const { t } = useText();
  const [copied, setCopied] = useState(false);
  const copy = () => {
    void navigator.clipboard?.writeText(command).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    });
  };
  return (
    <div className="cli">
      <div className="cli-label">{label ?? t('common.cli')}</div>
      <div className="cli-line">
        <code>{command}</code>
        <Button
          size="small"
          type="text"
          icon={copied ? <CheckOutlined /> : <CopyOutlined />}
          onClick={copy}
          aria-label={copied ? t('common.copied') : `${t('common.copy')}: ${command}`}
        />
      </div>
    </div>
  );
}

/** What went wrong, in the server's words, with what it means for what was asked. */
export function useProblem(): (error: unknown) => string {
  const { t } = useText();
  return (error) => {
    if (!(error instanceof Failure)) return String(error);
    const key = `problem.${error.kind}`;
    return t(isKey(key) ? key : 'problem.other', { problem: error.message });
  };
}

export function ProblemBox({ error }: { error: unknown }) {
  const text = useProblem();
  const undecided = error instanceof Failure && error.kind === 'undecided';
  return <Alert role="alert" type={undecided ? 'warning' : 'error'} showIcon message={text(error)} className="pre" />;
}
