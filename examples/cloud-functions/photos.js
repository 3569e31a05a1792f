// Photos that lie in the cloud's storage: a `cloud://` id means nothing elsewhere, so links are asked for, of the cloud.
// `cloud` is an SDK that was given no serviceUrl.
exports.withLinks = async (cloud, params) => {
  const kept = (params.images || []).filter((image) => image.startsWith('cloud://'))
  if (!kept.length) return params
  const { fileList } = await cloud.getTempFileURL({ fileList: kept })
  const links = new Map(fileList.map((file) => [file.fileID, file.tempFileURL]))
  return { ...params, images: params.images.map((image) => links.get(image) || image) }
}
