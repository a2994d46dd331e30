import { App, Button, Form, Input, Modal, Select } from 'antd';
import { useState } from 'react';
import { command } from '../api/actions';
import { get, put, remove, seg } from '../api/client';
import type { AccountView, Role } from '../api/types';
import { Cli, Mark, ProblemBox, useProblem } from '../components/parts';
import { useLoad } from '../components/use-load';
import { useText } from '../state/preferences';
import { useMe } from '../state/session';
import { LEAST_PASSWORD } from '../words/rules';

const ROLES: Role[] = ['viewer', 'operator', 'administrator'];

export default function Accounts() {
  const { t } = useText();
  const me = useMe();
  const { modal, message } = App.useApp();
  const problem = useProblem();
  const accounts = useLoad<AccountView[]>('accounts', () => get('/accounts'));
  const [editing, setEditing] = useState<AccountView | 'new' | null>(null);

  const drop = (name: string) =>
    modal.confirm({
      title: t('accounts.remove.title', { name }),
      content: t('accounts.remove.means'),
      okText: t('accounts.remove'),
      okButtonProps: { danger: true },
      cancelText: t('common.cancel'),
      onOk: () => remove(`/accounts/${seg(name)}`).then(accounts.again, (error: unknown) => void message.error(problem(error))),
    });
  return (
    <div className="page">
      <div className="head">
        <h1>{t('accounts.title')}</h1>
        <Button type="primary" onClick={() => setEditing('new')} data-testid="add">
          {t('accounts.add')}
        </Button>
      </div>
      {accounts.error !== null && <ProblemBox error={accounts.error} />}
      <section className="card scroll" tabIndex={0} aria-label={t('accounts.title')}>
        <table className="flat">
          <thead>
            <tr>
              <th scope="col">{t('accounts.name')}</th>
              <th scope="col">{t('accounts.role')}</th>
              <th scope="col">{t('accounts.tokens')}</th>
              <th scope="col">{t('common.actions')}</th>
            </tr>
          </thead>
          <tbody>
            {accounts.data?.map((account) => (
              <tr key={account.name}>
                <td>
                  {account.name} {account.name === me.name && <Mark tone="standby">{t('accounts.you')}</Mark>}
                </td>
                <td>
                  {t(`role.${account.role}`)} <div className="faint">{t(`role.${account.role}.means`)}</div>
                </td>
                <td>{account.tokens.join(', ') || t('common.none')}</td>
                <td>
                  <div className="actions">
                    <Button size="small" onClick={() => setEditing(account)} aria-label={`${t('accounts.change')}: ${account.name}`}>
                      {t('accounts.change')}
                    </Button>
                    <Button size="small" danger disabled={account.name === me.name} onClick={() => drop(account.name)} aria-label={`${t('accounts.remove')}: ${account.name}`}>
                      {t('accounts.remove')}
                    </Button>
                  </div>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      {editing && (
        <Editor
          account={editing === 'new' ? null : editing}
          onClose={(saved) => {
            setEditing(null);
            if (saved) accounts.again();
          }}
        />
      )}
    </div>
  );
}

interface Fields {
  name: string;
  role: Role;
  password?: string;
}

function Editor({ account, onClose }: { account: AccountView | null; onClose: (saved: boolean) => void }) {
  const { t } = useText();
  const { message } = App.useApp();
  const [form] = Form.useForm<Fields>();
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const name = Form.useWatch('name', form) ?? account?.name ?? '';
  const role = Form.useWatch('role', form) ?? account?.role ?? 'viewer';
  const save = async (fields: Fields) => {
    setBusy(true);
    setError(null);
    try {
      await put(`/accounts/${seg(fields.name)}`, { role: fields.role, ...(fields.password ? { password: fields.password } : {}) });
      void message.success(t('accounts.saved'));
      onClose(true);
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Modal
      open
      title={account ? t('accounts.edit', { name: account.name }) : t('accounts.add')}
      okText={t('accounts.save')}
      cancelText={t('common.cancel')}
      confirmLoading={busy}
      closable={{ 'aria-label': t('app.close') }}
      onOk={() => form.submit()}
      onCancel={() => onClose(false)}
    >
      <Form<Fields>
        form={form}
        layout="vertical"
        requiredMark={false}
        initialValues={{ name: account?.name ?? '', role: account?.role ?? 'viewer' }}
        onFinish={(fields) => void save(fields)}
      >
        <Form.Item name="name" label={t('accounts.name')} rules={[{ required: true, pattern: /^[a-z][a-z0-9_-]*$/, message: t('accounts.name.rule') }]}>
          <Input disabled={account !== null} autoComplete="off" autoCapitalize="none" />
        </Form.Item>
        <Form.Item name="role" label={t('accounts.role')} extra={t(`role.${role}.means`)}>
          <Select options={ROLES.map((value) => ({ value, label: t(`role.${value}`) }))} />
        </Form.Item>
        <Form.Item
          name="password"
          label={t('accounts.password')}
          extra={account ? t('accounts.password.keep') : undefined}
          rules={[{ required: account === null, min: LEAST_PASSWORD, message: t('accounts.password.rule', { count: LEAST_PASSWORD }) }]}
        >
          <Input type="password" autoComplete="new-password" />
        </Form.Item>
      </Form>
      {error !== null && <ProblemBox error={error} />}
      <Cli command={command('account', 'set', name || 'NAME', '--role', role)} />
    </Modal>
  );
}
