import { Alert, Button, Form, Input } from 'antd';
import { useState } from 'react';
import { Failure } from '../api/client';
import { ColourSwitch, LanguageSwitch } from '../components/header';
import { Cli, useProblem } from '../components/parts';
import { useText } from '../state/preferences';
import { useSession } from '../state/session';

interface Fields {
  name: string;
  password: string;
}

export function Login() {
  const { t } = useText();
  const { session, login, ask } = useSession();
  const problem = useProblem();
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  if (session.stage !== 'out') return null;

  const submit = async ({ name, password }: Fields) => {
    setBusy(true);
    setError(null);
    try {
      await login(name, password);
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  const said = (failure: unknown): string => {
    if (failure instanceof Failure && failure.kind === 'unauthenticated') return t('login.wrong');
    if (failure instanceof Failure && failure.kind === 'throttled' && failure.retryAfter !== null) {
      return t('login.throttled', { seconds: failure.retryAfter });
    }
    return problem(failure);
  };
  const required = [{ required: true, message: t('login.missing') }];
  return (
    <main className="centre">
      <div className="card login">
        <div className="row">
          <img src="./icon.svg" alt="" width={28} height={28} />
          <h1>{t('login.title')}</h1>
        </div>
        <div className="row">
          <LanguageSwitch />
          <ColourSwitch />
        </div>
        {session.ended && <Alert type="info" showIcon message={t('login.ended')} />}
        {session.problem && <Alert type="error" showIcon message={problem(session.problem)} />}
        {session.setup && (
          <Alert
            type="info"
            showIcon
            data-testid="setup"
            message={t('login.setup.title')}
            description={
              <div className="stack">
                <span>{t('login.setup.text')}</span>
                <Cli command="hotpair account set admin --role administrator" />
                <Button onClick={() => void ask()}>{t('common.refresh')}</Button>
              </div>
            }
          />
        )}
        {error !== null && <Alert type="error" showIcon role="alert" message={said(error)} data-testid="login-problem" />}
        <Form<Fields> layout="vertical" requiredMark={false} onFinish={(fields) => void submit(fields)}>
          <Form.Item name="name" label={t('login.name')} rules={required}>
            <Input autoFocus autoComplete="username" autoCapitalize="none" spellCheck={false} />
          </Form.Item>
          <Form.Item name="password" label={t('login.password')} rules={required}>
            <Input type="password" autoComplete="current-password" />
          </Form.Item>
          <Button type="primary" htmlType="submit" block loading={busy}>
            {t('login.enter')}
          </Button>
        </Form>
      </div>
    </main>
  );
}
