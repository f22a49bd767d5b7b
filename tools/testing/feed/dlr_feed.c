// SPDX-License-Identifier: GPL-2.0
/*
 * The counterpart of device state in `make bench`: a thread of the kernel that fills or empties a
 * pipe. Write "FD BYTES" to fill or empty in debugfs/dlr_feed; FD is an end of a pipe of the caller.
 */
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

struct job {
	struct file *file;
	u64 bytes;
	bool fill;
};

static int work(void *data)
{
	struct job *job = data;
	void *buffer = vzalloc(SZ_1M);

	while (buffer && job->bytes) {
		size_t now = min_t(u64, job->bytes, SZ_1M);
		ssize_t done = job->fill ? kernel_write(job->file, buffer, now, NULL) :
					   kernel_read(job->file, buffer, now, NULL);

		/* The other end is closed. */
		if (done <= 0)
			break;
		job->bytes -= done;
	}
	vfree(buffer);
	fput(job->file);
	kfree(job);
	/* The module stays until the last thread has left it. */
	module_put_and_kthread_exit(0);
}

static ssize_t begin(const char __user *user, size_t count, bool fill)
{
	struct task_struct *thread;
	struct job *job;
	char text[64];
	int fd, ret;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, count))
		return -EFAULT;
	text[count] = '\0';
	job = kzalloc_obj(*job);
	if (!job)
		return -ENOMEM;
	job->fill = fill;
	ret = -EINVAL;
	if (sscanf(text, "%d %llu", &fd, &job->bytes) != 2)
		goto free;
	ret = -EBADF;
	job->file = fget(fd);
	if (!job->file)
		goto free;
	__module_get(THIS_MODULE);
	thread = kthread_run(work, job, "dlr_feed");
	if (!IS_ERR(thread))
		return count;
	ret = PTR_ERR(thread);
	module_put(THIS_MODULE);
	fput(job->file);
free:
	kfree(job);
	return ret;
}

static ssize_t fill_write(struct file *file, const char __user *user, size_t count, loff_t *at)
{
	return begin(user, count, true);
}

static ssize_t empty_write(struct file *file, const char __user *user, size_t count, loff_t *at)
{
	return begin(user, count, false);
}

static const struct file_operations fill_ops = {
	.owner = THIS_MODULE,
	.write = fill_write,
};

static const struct file_operations empty_ops = {
	.owner = THIS_MODULE,
	.write = empty_write,
};

static struct dentry *folder;

static int __init feed_init(void)
{
	folder = debugfs_create_dir("dlr_feed", NULL);
	debugfs_create_file("fill", 0200, folder, NULL, &fill_ops);
	debugfs_create_file("empty", 0200, folder, NULL, &empty_ops);
	return 0;
}
module_init(feed_init);

static void __exit feed_exit(void)
{
	debugfs_remove(folder);
}
module_exit(feed_exit);

MODULE_DESCRIPTION("Fills and empties pipes");
MODULE_LICENSE("GPL");
