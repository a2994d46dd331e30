import { Alert, Button, Form, Input } from 'antd';
import { useState } from 'react';
import { put } from '../api/client';
import { ProblemBox } from '../components/parts';
import { useText } from '../state/preferences';
import { LEAST_PASSWORD } from '../words/rules';

interface Fields {
  old: string;
  fresh: string;
  again: string;
}

export default function Password() {
  const { t } = useText();
  const [form] = Form.useForm<Fields>();
  const [error, setError] = useState<unknown>(null);
  const [done, setDone] = useState(false);
  const [busy, setBusy] = useState(false);
  const change = async ({ old, fresh }: Fields) => {
    setBusy(true);
    setDone(false);
    setError(null);
    try {
      await put('/me/password', { old, new: fresh });
      setDone(true);
      form.resetFields();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="page">
      <h1>{t('password.title')}</h1>
      <section className="card login">
        {done && <Alert type="success" showIcon role="status" message={t('password.changed')} />}
        {error !== null && <ProblemBox error={error} />}
        <Form<Fields> form={form} layout="vertical" requiredMark={false} onFinish={(fields) => void change(fields)}>
          <Form.Item name="old" label={t('password.old')} rules={[{ required: true, message: t('login.missing') }]}>
            <Input type="password" autoComplete="current-password" />
          </Form.Item>
          <Form.Item
            name="fresh"
            label={t('password.new')}
            rules={[{ required: true, min: LEAST_PASSWORD, message: t('accounts.password.rule', { count: LEAST_PASSWORD }) }]}
          >
            <Input type="password" autoComplete="new-password" />
          </Form.Item>
          <Form.Item
            name="again"
            label={t('password.again')}
            dependencies={['fresh']}
            rules={[
              { required: true, message: t('login.missing') },
              ({ getFieldValue }) => ({
                validator: (_, value) =>
                  !value || value === getFieldValue('fresh') ? Promise.resolve() : Promise.reject(new Error(t('password.differs'))),
              }),
            ]}
          >
            <Input type="password" autoComplete="new-password" />
          </Form.Item>
          <Button type="primary" htmlType="submit" loading={busy}>
            {t('password.change')}
          </Button>
        </Form>
      </section>
    </div>
  );
}
